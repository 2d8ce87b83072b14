"""Looking at the guest: what each assertion needs to see, gathered by one root shell script for all of them.

Starting a process in an emulated guest takes tens of milliseconds and a round trip hundreds, so the needs of all
assertions are merged: what several ask for is looked at once. A verdict is then a pure function of the answers.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kiln.trial.session import CommandResult

FILE_LIMIT_BYTES: Final = 1024 * 1024
HTTP_LIMIT_BYTES: Final = 512 * 1024
HTTP_SECONDS: Final = 20


@dataclass(frozen=True, slots=True, order=True)
class Need:
    """Something to look at: a kind and what of it. *seconds* is the limit for a `script` or a `command`."""

    kind: str
    argument: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was seen. *status* is that of the program that looked; None says that it could not look at all."""

    status: int | None
    text: str
    errors: str = ""


class Seen:
    """All answers, by need. A need of a joint kind has the answer of the whole kind."""

    def __init__(self, answers: Mapping[Need, Answer]) -> None:
        self._answers = dict(answers)

    def __getitem__(self, need: Need) -> Answer:
        return self._answers.get(need, Answer(None, "", "was not looked at"))


def _units(units: Sequence[str]) -> str:
    properties = "Id,Names,LoadState,ActiveState,SubState,UnitFileState,Type,Result"
    return f"systemctl show --no-pager -p {properties} -- {shlex.join(units)}"


def _accounts(database: str) -> Callable[[Sequence[str]], str]:
    return lambda names: f"getent {database} -- {shlex.join(names)}; :"


def _packages(names: Sequence[str]) -> str:
    fields = r"${db:Status-Status}\t${binary:Package}\t${Version}\n"
    query = f"dpkg-query -W -f {shlex.quote(fields)} -- {shlex.join(names)} 2>/dev/null"
    return f"command -v dpkg-query >/dev/null || exit 127; {query}; :"


def _processes(_: Sequence[str]) -> str:
    # One grep instead of one cat a process; a process that ends meanwhile is no error.
    return "grep -aH '' /proc/[0-9]*/comm /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\037'; :"


def _sockets(_: Sequence[str]) -> str:
    # What ss(8) reads; an image need not have ss.
    return 'for t in tcp tcp6 udp udp6; do echo "$t"; cat "/proc/net/$t" 2>/dev/null; done; :'


def _sysctls(keys: Sequence[str]) -> str:
    paths = " ".join(shlex.quote(sysctl_path(key)) for key in keys)
    return f"grep -H '' {paths} 2>&1; :"


def _modules(names: Sequence[str]) -> str:
    builtin = "|".join(re.escape(name).replace("_", "[-_]") for name in names)
    pattern = shlex.quote(f"/({builtin})\\.ko")
    return f'cut -d" " -f1 /proc/modules; grep -hE {pattern} "/lib/modules/$(uname -r)/modules.builtin" 2>/dev/null; :'


def _sshd(_: Sequence[str]) -> str:
    return 'PATH="$PATH:/usr/sbin:/sbin"; sshd -T'


def _stat(option: str) -> Callable[[Sequence[str]], str]:
    return lambda paths: f"stat {option} -c '%a|%U|%G|%F|%n' -- {shlex.join(paths)} 2>/dev/null; :"


def _file_text(path: str) -> str:
    return f"head -c {FILE_LIMIT_BYTES} -- {shlex.quote(path)} | base64"


def _http(url: str) -> str:
    """Speak HTTP/1.0 with what the image has: bash for plain HTTP; curl or openssl for HTTPS."""
    match = URL.fullmatch(url)
    if match is None:
        raise ValueError(url)
    secure, host, port, path = match["scheme"] == "https", match["host"], match["port"], match["path"] or "/"
    port = port or ("443" if secure else "80")
    authority = host if match["port"] is None else f"{host}:{port}"
    # A path may hold `%` and `\\`, so it is an argument of printf and not its format.
    request = r"GET %s HTTP/1.0\r\nHost: %s\r\nUser-Agent: kiln-trial\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    send = f"printf {shlex.quote(request)} {shlex.quote(path)} {shlex.quote(authority)}"
    limit = f"head -c {HTTP_LIMIT_BYTES}"
    name = shlex.quote(host.strip("[]"))
    if not secure:
        talk = f"exec 3<>/dev/tcp/{name}/{port} && {send} >&3 && {limit} <&3"
        return f"timeout {HTTP_SECONDS} bash -c {shlex.quote(talk)} | base64"
    curl = f"curl -ksSi --http1.0 --max-time {HTTP_SECONDS} -- {shlex.quote(url)} | {limit} | base64"
    connect = shlex.quote(f"{host}:{port}")
    openssl = (
        f"{send} | timeout {HTTP_SECONDS} openssl s_client -quiet -connect {connect} 2>/dev/null | {limit} | base64"
    )
    return (
        f"if command -v curl >/dev/null; then {curl}; elif command -v openssl >/dev/null; then {openssl}; "
        "else echo 'the image has neither curl nor openssl' >&2; exit 127; fi"
    )


URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]*)?"
)

JOINT: Final[Mapping[str, Callable[[Sequence[str]], str]]] = {
    "units": _units,
    "users": _accounts("passwd"),
    "groups": _accounts("group"),
    "packages": _packages,
    "processes": _processes,
    "sockets": _sockets,
    "sysctls": _sysctls,
    "modules": _modules,
    "profiles": lambda _: "cat /sys/kernel/security/apparmor/profiles",
    "mounts": lambda _: "cat /proc/self/mountinfo",
    "failed-units": lambda _: "systemctl list-units --failed --plain --no-legend --no-pager",
    "boot-time": lambda _: "systemctl show --no-pager -p FinishTimestampMonotonic",
    "sshd": _sshd,
    "links": _stat(""),
    "files": _stat("-L"),
}
"""Kinds that are looked at once for all their arguments."""

SINGLE: Final[Mapping[str, Callable[[str], str]]] = {
    "file-text": _file_text,
    "hosts": lambda name: f"getent ahosts {shlex.quote(name)}; :",
    "http": _http,
}
"""Kinds with one answer an argument, part of the common script all the same."""

ALONE: Final = frozenset({"command", "script"})
"""Scripts that run by themselves: those of the recipe's author, and those that take long."""

OUTSIDE: Final = frozenset({"ssh-banner", "ssh-methods", "login-prompt", "accelerator", "image-size", "components"})
"""Seen from the host."""


def sysctl_path(key: str) -> str:
    """Return the file of *key*; both spellings of sysctl(8), `net.ipv4.x` and `net/ipv4/conf/eth0.1/x`."""
    return "/proc/sys/" + (key if "/" in key else key.replace(".", "/"))


@dataclass(frozen=True, slots=True)
class Batch:
    """One script that looks at many things, and how to take its output apart."""

    script: str
    parts: tuple[tuple[Need, ...], ...]
    token: str

    def read(self, result: CommandResult) -> dict[Need, Answer]:
        """Return the answers in *result*; a part that is missing or cut off gets status None."""
        text = result.stdout.decode("utf-8", "replace")
        trouble = "the look into the guest took too long" if result.timed_out else "the guest did not answer"
        answers: dict[Need, Answer] = {}
        for number, needs in enumerate(self.parts):
            begin, end = f"\n<{self.token}:{number}>\n", f"\n</{self.token}:{number}:"
            _, found, rest = text.partition(begin)
            body, closed, tail = rest.partition(end)
            status = re.match(r"(\d+)>", tail)
            if found and closed and status:
                answer = Answer(int(status.group(1)), body)
            else:
                answer = Answer(None, body, f"{trouble}: {result.stderr.decode('utf-8', 'replace').strip()[-300:]}")
            answers.update(dict.fromkeys(needs, answer))
        return answers


def plan_batch(needs: Iterable[Need], token: str) -> Batch:
    """Return one script for all *needs* that can share it; *token* is random, so that no output passes for a frame."""
    parts: list[tuple[Need, ...]] = []
    lines = ["export LC_ALL=C"]
    wanted = sorted(set(needs))
    groups: dict[tuple[str, str], list[Need]] = {}
    for need in wanted:
        if need.kind in JOINT:
            groups.setdefault((need.kind, ""), []).append(need)
        elif need.kind in SINGLE:
            groups.setdefault((need.kind, need.argument), []).append(need)
    for (kind, argument), members in groups.items():
        arguments = [need.argument for need in members if need.argument]
        script = JOINT[kind](arguments) if kind in JOINT else SINGLE[kind](argument)
        number = len(parts)
        lines += [
            f"printf '\\n<%s:%s>\\n' {token} {number}",
            f"(\n{script}\n) 2>&1",
            f"printf '\\n</%s:%s:%s>\\n' {token} {number} $?",
        ]
        parts.append(tuple(members))
    return Batch("\n".join(lines) + "\n", tuple(parts), token)
