"""Where this process may make control groups: the hierarchies of version 1, and the one of version 2 (cgroups(7))."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CONTROLLERS: Final = ("memory", "pids", "cpu", "io")
"""Those that limit something here, by their names in version 2."""
_NAMES_OF_VERSION_1: Final = {"blkio": "io"}


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """Where this process may make groups. *controllers* of version 1 have a directory each; *unified* is version 2's.

    *unified_controllers* are those that groups below *unified* can have; its rules for devices need none.
    """

    controllers: Mapping[str, Path]
    unified: Path | None
    unified_controllers: frozenset[str]

    def available(self) -> frozenset[str]:
        """Return the controllers that can hold limits here."""
        return frozenset(CONTROLLERS) & (self.controllers.keys() | self.unified_controllers)


def detect(mountinfo: Path = Path("/proc/self/mountinfo"), own: Path = Path("/proc/self/cgroup")) -> Hierarchies:
    """Find the hierarchies in which this process may make groups. Raises OSError."""
    paths: dict[str, str] = {}
    for line in own.read_text(encoding="utf-8").splitlines():
        number, names, path = line.split(":", 2)
        for name in names.split(",") if number != "0" else ("unified",):
            paths[name] = path
    controllers: dict[str, Path] = {}
    unified: Path | None = None
    for line in mountinfo.read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if kind[0] == "cgroup2":
            unified = unified or _writable(fields, paths.get("unified"))
        elif kind[0] == "cgroup":
            for name in kind[2].split(","):
                found = _writable(fields, paths.get(name))
                if found is not None:
                    controllers.setdefault(_NAMES_OF_VERSION_1.get(name, name), found)
    enabled = frozenset[str]()
    if unified is not None:
        unified, enabled = _with_controllers(unified)
    return Hierarchies(controllers, unified, enabled)


def _writable(fields: list[str], own: str | None) -> Path | None:
    """Return the directory of this process's own group under a mount, if groups can be made there."""
    root, point = fields[3], Path(fields[4])
    if own is None:
        return None
    try:
        path = point / Path(own).relative_to(root)
    except ValueError:
        return None
    return path if os.access(path, os.W_OK) and "ro" not in fields[5].split(",") else None


def _with_controllers(own: Path) -> tuple[Path, frozenset[str]]:
    """Return where groups of version 2 can have controllers: below the own group, or beside it where it is full.

    A group with processes in it, other than the root, cannot hand controllers down.
    """
    for base in (own, own.parent):
        try:
            offered = frozenset((base / "cgroup.controllers").read_text(encoding="ascii").split())
            wanted = offered & frozenset(CONTROLLERS)
            if not wanted or not os.access(base, os.W_OK):
                continue
            (base / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in wanted), encoding="ascii")
        except OSError:
            continue
        return base, wanted
    return own, frozenset()
