"""What a tree says about accounts, services that start at boot, and kernel settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kiln.artifact.rooted import RootedTree

_SHADOWED: Final = "x"
MAX_FILE_BYTES: Final = 16 * 1024 * 1024
UNIT_DIRECTORIES: Final = ("etc/systemd/system", "usr/lib/systemd/system")
SYSCTL_DIRECTORIES: Final = ("usr/lib/sysctl.d", "usr/local/lib/sysctl.d", "etc/sysctl.d")
"""Later ones win where two files have one name (sysctl.d(5))."""


@dataclass(frozen=True, slots=True, order=True)
class Account:
    """A line of /etc/passwd; *locked* says that no password opens it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    locked: bool


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """A line of /etc/group."""

    name: str
    gid: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, order=True)
class EnabledUnit:
    """A systemd unit that another one wants or requires by a link."""

    unit: str
    by: str


@dataclass(frozen=True, slots=True, order=True)
class Sysctl:
    """A kernel setting that is applied at boot."""

    key: str
    value: str


def accounts(tree: RootedTree) -> tuple[Account, ...]:
    """Return the accounts; lines that are malformed are left out, as the C library does."""
    shadow = {fields[0]: fields[1] for fields in _records(tree, "etc/shadow", 2)}
    found = []
    for fields in _records(tree, "etc/passwd", 7):
        if fields[2].isdigit() and fields[3].isdigit():
            password = shadow.get(fields[0], fields[1])
            locked = password.startswith(("!", "*")) or password == _SHADOWED
            found.append(Account(fields[0], int(fields[2]), int(fields[3]), fields[5], fields[6], locked))
    return tuple(sorted(found))


def groups(tree: RootedTree) -> tuple[Group, ...]:
    """Return the groups with their members."""
    return tuple(
        sorted(
            Group(fields[0], int(fields[2]), tuple(sorted(filter(None, fields[3].split(",")))))
            for fields in _records(tree, "etc/group", 4)
            if fields[2].isdigit()
        )
    )


def enabled_units(tree: Path) -> tuple[EnabledUnit, ...]:
    """Return the links below `*.wants` and `*.requires` (systemd.unit(5)), without those to /dev/null."""
    found = set()
    for directory in UNIT_DIRECTORIES:
        for folder in _entries(tree / directory):
            by, _, kind = folder.name.rpartition(".")
            if kind in ("wants", "requires") and folder.is_dir(follow_symlinks=False):
                for link in _entries(Path(folder.path)):
                    if not link.is_symlink() or str(Path(link.path).readlink()) != "/dev/null":
                        found.add(EnabledUnit(link.name, by))
    return tuple(sorted(found))


def sysctls(tree: RootedTree, root: Path) -> tuple[Sysctl, ...]:
    """Return the settings in force after systemd-sysctl has read all files in the order of their names."""
    files: dict[str, str] = {}
    for directory in SYSCTL_DIRECTORIES:
        for entry in _entries(root / directory):
            if entry.name.endswith(".conf"):
                files[entry.name] = f"{directory}/{entry.name}"
    values: dict[str, str] = {}
    for _, path in sorted(files.items()):
        for line in _text(tree, path).splitlines():
            key, equals, value = line.strip().lstrip("-").partition("=")
            if equals and not line.lstrip().startswith(("#", ";")):
                values[key.strip().replace("/", ".")] = value.strip()
    return tuple(Sysctl(key, value) for key, value in sorted(values.items()))


def _records(tree: RootedTree, path: str, fields: int) -> Iterator[list[str]]:
    for line in _text(tree, path).splitlines():
        record = line.split(":")
        if len(record) >= fields:
            yield record


def _text(tree: RootedTree, path: str) -> str:
    return (tree.read(path.encode(), MAX_FILE_BYTES) or b"").decode("utf-8", "replace")


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as scan:
            return sorted(scan, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
