"""Assertions about ports, HTTP, SSH and containers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from kiln.trial.assertions.kind import (
    AssertionType,
    Outcome,
    not_seen,
    require,
    require_port,
    scalar_text,
    short,
    verdict,
)
from kiln.trial.observe import URL, Need, Seen
from kiln.trial.parsers import Protocol, decode_base64, parse_http, parse_listeners, parse_sshd
from kiln.trial.ssh import parse_methods

SOCKETS: Final = Need("sockets")
SSHD: Final = Need("sshd")
PASSWORD_METHODS: Final = frozenset({"password", "keyboard-interactive"})
CONTAINER_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class PortParams:
    """*port* and *protocol*."""

    port: int
    protocol: Protocol

    def __post_init__(self) -> None:
        require_port(self.port)


@dataclass(frozen=True, slots=True)
class TcpPortParams:
    """*port*: on which SSH listens."""

    port: int

    def __post_init__(self) -> None:
        require_port(self.port)


@dataclass(frozen=True, slots=True)
class HttpParams:
    """*url* as the machine itself reaches it; *status* (else any from 200 to 399); a text that the body *contains*."""

    url: str
    status: int | None = None
    contains: str | None = None

    def __post_init__(self) -> None:
        match = URL.fullmatch(self.url)
        if match is None:
            raise ValueError(f"{self.url!r} is not an HTTP address such as http://localhost:8080/path")
        if match["port"] is not None:
            require_port(int(match["port"]))
        if self.status is not None and not 100 <= self.status <= 599:
            raise ValueError(f"{self.status} is not an HTTP status (100 to 599)")


@dataclass(frozen=True, slots=True)
class SshdParams:
    """*key*: a keyword of sshd_config(5), in any case; *value*: what is in force, as `sshd -T` prints it."""

    key: str
    value: object

    def __post_init__(self) -> None:
        require(r"[A-Za-z0-9]+", self.key, "a keyword of sshd_config")
        scalar_text(self.value, "value")

    @property
    def wanted(self) -> str:
        """The value as text."""
        return " ".join(scalar_text(self.value, "value").split())


@dataclass(frozen=True, slots=True)
class ContainerParams:
    """*engine*: which container engine must work."""

    engine: Literal["docker", "podman"] = "docker"

    @property
    def need(self) -> Need:
        """The container, built and run by a script."""
        return Need("script", CONTAINER_SCRIPT.replace("ENGINE", self.engine), CONTAINER_SECONDS)


# The container is made of the image's own shell, so that nothing is fetched. A random word comes back through it.
CONTAINER_SCRIPT: Final = """
set -e
word=$(cat /proc/sys/kernel/random/uuid)
dir=$(mktemp -d /var/tmp/kiln-trial.XXXXXX)
trap 'ENGINE image rm -f "kiln-trial:$word" >/dev/null 2>&1; rm -rf "$dir"' EXIT
mkdir -p "$dir/bin"
cp -L /bin/sh "$dir/bin/sh"
ldd /bin/sh | grep -o '/[^ ]*' | while read -r library; do
  mkdir -p "$dir${library%/*}"
  cp -L "$library" "$dir$library"
done
tar -C "$dir" -c . | ENGINE import - "kiln-trial:$word" >/dev/null
echo "expected $word"
ENGINE run --rm --network none --pull never "kiln-trial:$word" /bin/sh -c 'echo "container $0"' "$word"
"""


def _port_listening(params: PortParams, seen: Seen) -> Outcome:
    expected = f"something listens on {params.port}/{params.protocol}"
    answer = seen[SOCKETS]
    if answer.status != 0:
        return not_seen(expected, answer)
    there = [x for x in parse_listeners(answer.text) if (x.port, x.protocol) == (params.port, params.protocol)]
    return verdict(bool(there), expected, ", ".join(map(str, there)) or "nothing listens")


def _port_closed(params: PortParams, seen: Seen) -> Outcome:
    expected = f"nothing listens for others on {params.port}/{params.protocol}"
    answer = seen[SOCKETS]
    if answer.status != 0:
        return not_seen(expected, answer)
    there = [x for x in parse_listeners(answer.text) if (x.port, x.protocol) == (params.port, params.protocol)]
    outside = [x for x in there if not x.loopback]
    return verdict(not outside, expected, ", ".join(map(str, there)) or "nothing listens")


def _http_responds(params: HttpParams, seen: Seen) -> Outcome:
    status = "a status from 200 to 399" if params.status is None else f"status {params.status}"
    contains = "" if params.contains is None else f" and a body with {params.contains!r}"
    expected = f"{params.url} answers with {status}{contains}"
    answer = seen[Need("http", params.url)]
    if answer.status is None or answer.status == 127:
        return not_seen(expected, answer)
    raw = decode_base64(answer.text)
    response = None if raw is None else parse_http(raw)
    if response is None:
        return verdict(False, expected, f"no HTTP answer: {answer.text if raw is None else raw[:100]!r}")
    good = 200 <= response.status <= 399 if params.status is None else response.status == params.status
    found = params.contains is None or params.contains in response.body
    got = f"status {response.status}, {len(response.body)} characters" + ("" if found else ", without the text")
    return verdict(good and found, expected, got, "" if good and found else response.body)


def _sshd_setting(params: SshdParams, seen: Seen) -> Outcome:
    expected = f"sshd's {params.key} is {params.wanted}"
    answer = seen[SSHD]
    if answer.status != 0:
        return not_seen(expected, answer)
    values = parse_sshd(answer.text).get(params.key.lower(), ())
    good = any(_same(value, params.wanted) for value in values)
    return verdict(good, expected, "; ".join(values) or "not set")


def _same(value: str, wanted: str) -> bool:
    # `sshd -T` prints prohibit-password by its old name, and words in lower case.
    aliases = {"without-password": "prohibit-password"}
    left, right = (" ".join(text.lower().split()) for text in (value, wanted))
    return aliases.get(left, left) == aliases.get(right, right)


def _ssh_answers(params: TcpPortParams, seen: Seen) -> Outcome:
    expected = f"an SSH server answers on port {params.port} from outside"
    answer = seen[Need("ssh-banner", str(params.port))]
    if answer.status is None:
        return not_seen(expected, answer)
    return verdict(bool(answer.text), expected, answer.text or "no SSH banner")


def _ssh_refuses_passwords(params: TcpPortParams, seen: Seen) -> Outcome:
    expected = f"the SSH server on port {params.port} offers no password login"
    answer = seen[Need("ssh-methods", str(params.port))]
    methods = None if answer.status is None else parse_methods(answer.errors)
    if methods is None:
        return not_seen(expected, answer)
    return verdict(not methods & PASSWORD_METHODS, expected, f"offers {', '.join(sorted(methods)) or 'nothing'}")


def _container_runs(params: ContainerParams, seen: Seen) -> Outcome:
    expected = f"{params.engine} runs a container made of the image's own files"
    answer = seen[params.need]
    if answer.status is None:
        return not_seen(expected, answer)
    lines = dict(line.split(" ", 1) for line in answer.text.splitlines() if " " in line)
    good = answer.status == 0 and "expected" in lines and lines.get("container") == lines["expected"]
    got = "ran and answered" if good else f"status {answer.status}: {short(answer.errors or answer.text)}"
    return verdict(good, expected, got, f"{answer.text}{answer.errors}")


@dataclass(frozen=True, slots=True)
class HostParams:
    """*name*: of a machine."""

    name: str

    def __post_init__(self) -> None:
        require(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}", self.name, "the name of a machine")


def _dns_resolves(params: HostParams, seen: Seen) -> Outcome:
    expected = f"{params.name} has an address"
    answer = seen[Need("hosts", params.name)]
    if answer.status is None:
        return not_seen(expected, answer)
    addresses = sorted({line.split()[0] for line in answer.text.splitlines() if line.split()})
    return verdict(bool(addresses), expected, ", ".join(addresses) or "no address")


TYPES: Final = (
    AssertionType(
        "dns_resolves",
        HostParams,
        lambda params: (Need("hosts", params.name),),
        _dns_resolves,
        settles=True,
    ),
    AssertionType("port_listening", PortParams, lambda _: (SOCKETS,), _port_listening, settles=True),
    AssertionType("port_closed", PortParams, lambda _: (SOCKETS,), _port_closed),
    AssertionType(
        "http_responds",
        HttpParams,
        lambda params: (Need("http", params.url),),
        _http_responds,
        settles=True,
    ),
    AssertionType("sshd_setting", SshdParams, lambda _: (SSHD,), _sshd_setting),
    AssertionType(
        "ssh_answers",
        TcpPortParams,
        lambda params: (Need("ssh-banner", str(params.port)),),
        _ssh_answers,
        settles=True,
    ),
    AssertionType(
        "ssh_refuses_passwords",
        TcpPortParams,
        lambda params: (Need("ssh-methods", str(params.port)),),
        _ssh_refuses_passwords,
    ),
    AssertionType(
        "container_runs",
        ContainerParams,
        lambda params: (params.need,),
        _container_runs,
    ),
)
