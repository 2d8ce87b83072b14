"""Where remote hosts are and what runs there: `[PATTERN=]ssh://[user@]host[:port][?option=value&...]`."""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from kiln.engine.manifest.model import Pipeline, Plan, Stage
from kiln.errors import Domain, ExitStatus, KilnError

WORKER_COMMAND: Final = "kiln-osbuild --worker"
SILENCE_SECONDS: Final = 60.0
OPTIONS: Final = ("slots", "command", "identity", "known-hosts", "ssh", "silence", "fallback")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:%-]*")
"""A host or user; it never begins with a dash, which would be an option of ssh."""


@dataclass(frozen=True, slots=True)
class RemoteHost:
    """A host that runs stages, *slots* at the same time. *command* is started there by the shell of *user*.

    *ssh* is the program with options of its own; *identity* and *known_hosts* are files (None: ssh's own).
    *silence_seconds* is how long nothing may be heard.
    """

    host: str
    user: str | None = None
    port: int | None = None
    slots: int = 1
    command: str = WORKER_COMMAND
    identity: Path | None = None
    known_hosts: Path | None = None
    ssh: tuple[str, ...] = ("ssh",)
    silence_seconds: float = SILENCE_SECONDS

    @property
    def name(self) -> str:
        """The host as messages name it; two hosts of one name are the same place."""
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{user}{host}" + (f":{self.port}" if self.port else "")


@dataclass(frozen=True, slots=True)
class Remote:
    """A host and what it is for. *pattern* None: whatever finds no room on this machine; else only what matches it.

    What matches a pattern runs here only if *fallback* is true and no host is left.
    """

    host: RemoteHost
    pattern: str | None = None
    fallback: bool = False

    def wants(self, pipeline: Pipeline, stage: Stage) -> bool:
        """Whether the pattern means this stage: by its pipeline's name, its id or its type, as --checkpoint does."""
        pattern = self.pattern or ""
        return any(fnmatch.fnmatchcase(name, pattern) for name in (pipeline.name, stage.id, stage.type))


def without_use(remotes: Sequence[Remote], plan: Plan) -> list[Remote]:
    """Return those whose pattern matches no pipeline and no stage of a plan."""
    stages = [(pipeline, stage) for pipeline in plan.pipelines for stage in pipeline.stages]
    return [
        remote
        for remote in remotes
        if remote.pattern is not None and not any(remote.wants(pipeline, stage) for pipeline, stage in stages)
    ]


def parse_remote(text: str) -> Remote:
    """Read what stands after --remote. Raises KilnError(SETTINGS, "bad-remote")."""
    pattern, found, url = text.rpartition("=ssh://")
    if found:
        url = f"ssh://{url}"
        if not pattern:
            raise _bad(text, "there is nothing before the `=`")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad(text, str(error)) from None
    host, user = unquote(parts.hostname or ""), None if parts.username is None else unquote(parts.username)
    if parts.scheme != "ssh" or parts.path not in ("", "/") or parts.fragment or parts.password is not None:
        raise _bad(text, "it is not of the form ssh://user@host:port?option=value")
    for part in (host, user):
        if part is not None and not _NAME.fullmatch(part):
            raise _bad(text, f"{part!r} is not the name of a host or user")
    options: dict[str, str] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in OPTIONS or key in options or not value:
            raise _bad(text, f"the option `{key}` is unknown, empty or given twice; known are {', '.join(OPTIONS)}")
        options[key] = value
    return Remote(_host(text, host, user, port, options), pattern or None, _choice(text, options))


def _host(text: str, host: str, user: str | None, port: int | None, options: Mapping[str, str]) -> RemoteHost:
    try:
        slots = int(options.get("slots", "1"))
        silence = float(options.get("silence", SILENCE_SECONDS))
        ssh = tuple(shlex.split(options.get("ssh", "ssh")))
    except ValueError as error:
        raise _bad(text, str(error)) from None
    if slots < 1 or not 0 < silence < float("inf") or not ssh:
        raise _bad(text, "slots must be at least 1, silence more than 0, ssh a command")
    identity, known_hosts = (
        Path(options[key]).expanduser().absolute() if key in options else None for key in ("identity", "known-hosts")
    )
    command = options.get("command", WORKER_COMMAND)
    return RemoteHost(host, user, port, slots, command, identity, known_hosts, ssh, silence)


def _choice(text: str, options: Mapping[str, str]) -> bool:
    fallback = options.get("fallback", "none")
    if fallback not in ("none", "local"):
        raise _bad(text, "fallback is `local` or `none`")
    return fallback == "local"


def _bad(text: str, problem: str) -> KilnError:
    return KilnError(
        Domain.SETTINGS,
        "bad-remote",
        f"`{text}` names no remote host: {problem}",
        hint="for example --remote ssh://builder@host, or --remote 'image=ssh://builder@host:2222?slots=2'",
        exit_status=ExitStatus.USAGE,
    )
