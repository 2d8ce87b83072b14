"""Readers for what the guest's files and programs print. Lines that make no sense are left out, never an error."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Protocol = Literal["tcp", "udp"]

TCP_LISTEN: Final = "0A"  # include/net/tcp_states.h
UDP_UNCONNECTED: Final = "07"  # a bound UDP socket is in TCP_CLOSE


@dataclass(frozen=True, slots=True)
class Unit:
    """A systemd unit's state, as `systemctl show` names it."""

    id: str
    names: frozenset[str]
    load: str
    active: str
    sub: str
    file_state: str
    type: str
    result: str


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that waits for others."""

    protocol: Protocol
    address: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only the machine itself can reach it."""
        address = ipaddress.ip_address(self.address)
        mapped = getattr(address, "ipv4_mapped", None)
        return bool((mapped or address).is_loopback)

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Process:
    """A running process: its short name and its arguments."""

    pid: int
    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What stat(1) said of a path."""

    path: str
    mode: int
    owner: str
    group: str
    type: str


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A line of /proc/self/mountinfo; *options* are those of the mount and of the file system together."""

    path: str
    options: frozenset[str]
    type: str


def parse_units(text: str) -> dict[str, Unit]:
    """Read `systemctl show` for several units: every name of a unit leads to it."""
    units: dict[str, Unit] = {}
    for block in text.split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines() if "=" in line)
        if "Id" not in values:
            continue
        names = frozenset(values.get("Names", "").split()) | {values["Id"]}
        unit = Unit(
            values["Id"],
            names,
            *(
                values.get(key, "")
                for key in ("LoadState", "ActiveState", "SubState", "UnitFileState", "Type", "Result")
            ),
        )
        units.update(dict.fromkeys(names, unit))
    return units


def parse_listeners(text: str) -> tuple[Listener, ...]:
    """Read /proc/net/{tcp,tcp6,udp,udp6}, each after a line with its name (proc_pid_net(5))."""
    listeners = []
    table = ""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 1 and words[0] in ("tcp", "tcp6", "udp", "udp6"):
            table = words[0]
        if len(words) < 4 or not table:
            continue
        protocol: Protocol = "tcp" if table.startswith("tcp") else "udp"
        if words[3] != (TCP_LISTEN if protocol == "tcp" else UDP_UNCONNECTED):
            continue
        address, _, port = words[1].partition(":")
        decoded = _decode_address(address)
        if decoded is not None and re.fullmatch(r"[0-9A-Fa-f]{4}", port):
            listeners.append(Listener(protocol, decoded, int(port, 16)))
    return tuple(listeners)


def parse_processes(text: str) -> tuple[Process, ...]:
    """Read `/proc/PID/comm:NAME` and `/proc/PID/cmdline:ARGUMENTS`, arguments separated by the byte 0x1f."""
    names: dict[int, str] = {}
    arguments: dict[int, tuple[str, ...]] = {}
    for line in text.split("\n"):
        match = re.match(r"/proc/(\d+)/(comm|cmdline):(.*)", line, re.DOTALL)
        if match is None:
            continue
        pid = int(match.group(1))
        if match.group(2) == "comm":
            names[pid] = match.group(3)
        else:
            arguments.setdefault(pid, tuple(word for word in match.group(3).split("\x1f") if word))
    return tuple(Process(pid, name, arguments.get(pid, ())) for pid, name in sorted(names.items()))


def parse_packages(text: str) -> dict[str, str]:
    """Read `status TAB name[:architecture] TAB version`: the version of each installed package, by name."""
    installed = {}
    for line in text.splitlines():
        words = line.split("\t")
        if len(words) == 3 and words[0] == "installed":
            installed[words[1].partition(":")[0]] = words[2]
    return installed


def parse_names(text: str) -> frozenset[str]:
    """Read passwd(5) or group(5): the first field of each line."""
    return frozenset(line.partition(":")[0] for line in text.splitlines() if ":" in line)


def parse_sysctls(text: str) -> dict[str, str]:
    """Read `/proc/sys/PATH:VALUE`: values by path, white space made one space."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        match = re.match(r"(/proc/sys/[^:\0]+):(.*)", line)
        if match:
            values.setdefault(match.group(1), " ".join(match.group(2).split()))
    return values


def parse_modules(text: str) -> frozenset[str]:
    """Read names of loaded modules and paths of built-in ones; `-` and `_` are the same letter in a module's name."""
    names = set()
    for line in text.split():
        name = line.rpartition("/")[2]
        names.add(re.sub(r"\.ko(\.[a-z0-9]+)?$", "", name).replace("-", "_"))
    return frozenset(names)


def parse_mounts(text: str) -> dict[str, MountPoint]:
    """Read proc_pid_mountinfo(5); where several lie over one another, the last is the one that is seen."""
    mounts = {}
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        fields, system = left.split(" "), right.split(" ")
        if not dash or len(fields) < 6 or len(system) < 3:
            continue
        path = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), fields[4])
        options = frozenset(fields[5].split(",")) | frozenset(system[2].split(","))
        if "ro" in fields[5].split(","):
            options -= {"rw"}  # a read-only mount of a writable file system
        mounts[path] = MountPoint(path, options, system[0])
    return mounts


def parse_files(text: str) -> dict[str, FileStatus]:
    """Read `mode|owner|group|type|path` as stat(1) prints it."""
    found = {}
    for line in text.split("\n"):
        words = line.split("|", 4)
        if len(words) == 5 and re.fullmatch(r"[0-7]{1,6}", words[0]):
            found[words[4]] = FileStatus(words[4], int(words[0], 8), words[1], words[2], words[3])
    return found


def parse_sshd(text: str) -> Mapping[str, tuple[str, ...]]:
    """Read `sshd -T`: the values of each keyword in lower case; some stand several times."""
    settings: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        key, space, value = line.strip().partition(" ")
        if space and re.fullmatch(r"[a-z0-9]+", key):
            settings[key] = (*settings.get(key, ()), value.strip())
    return settings


def parse_failed_units(text: str) -> tuple[str, ...]:
    """Read `systemctl list-units --failed --plain --no-legend`."""
    return tuple(line.split()[0] for line in text.splitlines() if line.strip())


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """Status and body of an HTTP/1 response."""

    status: int
    body: str


def parse_http(raw: bytes) -> HttpResponse | None:
    """Read a response without chunks (the request was HTTP/1.0); None if it is no HTTP."""
    head, _, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
    match = re.match(rb"HTTP/\d(?:\.\d)? (\d{3})(?: |\n|$)", head)
    return None if match is None else HttpResponse(int(match.group(1)), body.decode("utf-8", "replace"))


def decode_base64(text: str) -> bytes | None:
    """Read base64 with line breaks; None if there is anything else in it."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _decode_address(text: str) -> str | None:
    """An address is printed as 32-bit words in the byte order of the machine, which is little-endian on all of ours."""
    if not re.fullmatch(r"[0-9A-Fa-f]{8}|[0-9A-Fa-f]{32}", text):
        return None
    raw = bytes.fromhex(text)
    words = struct.unpack(f"<{len(raw) // 4}I", raw)
    return str(ipaddress.ip_address(struct.pack(f">{len(words)}I", *words)))


def parse_profiles(text: str) -> dict[str, str]:
    """Read AppArmor's list of profiles, `name (mode)`: name -> mode."""
    pairs = (line.strip().rpartition(" (") for line in text.splitlines())
    return {name: mode.removesuffix(")") for name, found, mode in pairs if found}
