"""Starting a worker over SSH: an ordinary client, strict about host keys, that can ask nobody anything."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Final

from kiln.engine.execution.places import PlaceError
from kiln.engine.execution.remote.address import RemoteHost
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux import process

CONNECT_SECONDS: Final = 30
KEPT_LINES: Final = 40
KEPT_LINE_CHARACTERS: Final = 2000
# What OpenSSH says (sshconnect.c, clientloop.c), and what a shell says of a command that it does not have.
UNTRUSTED: Final = ("Host key verification failed", "REMOTE HOST IDENTIFICATION HAS CHANGED", "No matching host key")
DENIED: Final = ("Permission denied", "Too many authentication failures")
NO_COMMAND: Final = ("command not found", ": not found", "No such file or directory")


@dataclass(slots=True)
class SshProcess:
    """A running ssh. *reading* and *writing* are the worker's standard output and input."""

    host: RemoteHost
    process: subprocess.Popen[bytes]
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    drain: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.drain = threading.Thread(target=self._drain, name="remote-stderr", daemon=True)
        self.drain.start()

    @property
    def reading(self) -> int:
        """The descriptor that the worker is heard on."""
        return _stream(self.process.stdout).fileno()

    @property
    def writing(self) -> int:
        """The descriptor that the worker listens to."""
        return _stream(self.process.stdin).fileno()

    def lost(self, problem: str) -> KilnError:
        """Return the error for a connection that has ended, by what ssh and the remote side said about it.

        PlaceError where another host may do instead, KilnError(ENGINE, "remote-untrusted") where nothing may go on.
        """
        process.end_group(self.process, grace_seconds=process.GRACE_SECONDS)
        self.drain.join()
        text = "\n".join(self.lines)
        if any(words in text for words in UNTRUSTED):
            return KilnError(
                Domain.ENGINE,
                "remote-untrusted",
                f"the host {self.host.name} does not prove to be the one that is known under this name",
                detail=text,
                hint="have its host key from somebody you trust in the known_hosts file; nothing was sent",
                exit_status=ExitStatus.REFUSED,
            )
        hint = "the stages before it are kept; the next run sends only what is missing"
        if any(words in text for words in DENIED):
            hint = "is the identity's public key in the account's authorized_keys? nobody is asked for a password"
        elif any(words in text for words in NO_COMMAND):
            hint = f"Kiln must be installed there; `{self.host.command}` is started by the account's shell"
        return PlaceError(
            "remote-lost",
            f"the remote host {self.host.name} cannot be reached any more, or not at all: {problem}",
            lost=True,
            detail=text,
            hint=hint,
            retriable=True,
        )

    def _drain(self) -> None:
        stream = _stream(self.process.stderr)
        for line in iter(lambda: stream.readline(KEPT_LINE_CHARACTERS), b""):
            self.lines.append(line.decode("utf-8", "replace").rstrip())


def ssh_argv(host: RemoteHost) -> list[str]:
    """Return the command line that starts the worker of *host*."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": str(CONNECT_SECONDS),
        "ControlPath": "none",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "PermitLocalCommand": "no",
        "EscapeChar": "none",
        "LogLevel": "ERROR",
    }
    if host.identity is not None:
        options |= {"IdentityFile": _quoted(host.identity), "IdentitiesOnly": "yes"}
    if host.known_hosts is not None:
        options |= {"UserKnownHostsFile": _quoted(host.known_hosts), "GlobalKnownHostsFile": "none"}
    arguments = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    if host.port is not None:
        arguments += ["-p", str(host.port)]
    if host.user is not None:
        arguments += ["-l", host.user]
    return [*host.ssh, "-T", *arguments, "--", host.host, host.command]


@contextmanager
def started(host: RemoteHost) -> Iterator[SshProcess]:
    """Start the worker of *host*; its connection ends with the block. Raises KilnError(HOST, "missing-tool")."""
    agent = {"SSH_AUTH_SOCK": os.environ["SSH_AUTH_SOCK"]} if "SSH_AUTH_SOCK" in os.environ else {}
    pipe = subprocess.PIPE
    environment = process.allowed_environment(agent)
    with process.spawn(ssh_argv(host), env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        ssh = SshProcess(host, child)
        try:
            yield ssh
        finally:
            process.end_group(child, grace_seconds=process.GRACE_SECONDS)
            ssh.drain.join()


def _quoted(path: object) -> str:
    """Return a path as ssh_config(5) reads it: with quotes it may have spaces; percent signs stand for themselves."""
    return '"' + str(path).replace("%", "%%") + '"'


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 - all three were asked for as pipes
    return stream
