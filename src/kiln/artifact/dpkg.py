"""What dpkg's database in a tree says: which package owns which file, and with which content it came.

Reference: dpkg(1), section FILES; deb-md5sums(5); dpkg-divert(1). Paths are bytes without a slash in front, with the
links in their directories followed, so that `/bin/sh` and `/usr/bin/sh` are one on a merged tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kiln.artifact.inventory import dpkg_manifest
from kiln.artifact.rooted import RootedTree

INFO: Final = "var/lib/dpkg/info"
DIVERSIONS: Final = "var/lib/dpkg/diversions"
MAX_LIST_BYTES: Final = 64 * 1024 * 1024
_MD5_LINE: Final = re.compile(rb"([0-9a-f]{32})  ?(.+)")


@dataclass(frozen=True, slots=True, order=True)
class DpkgPackage:
    """An installed package."""

    name: str
    architecture: str
    version: str

    @property
    def id(self) -> str:
        """`name:architecture`, unique in a tree."""
        return f"{self.name}:{self.architecture}"


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns what."""

    packages: tuple[DpkgPackage, ...]
    owners: dict[bytes, tuple[str, ...]]
    """Path -> ids of packages, sorted. Directories have many."""
    md5: dict[bytes, tuple[str, str]]
    """Path of a file that is no configuration file -> id of its package, and MD5 in hexadecimal."""


def read_ownership(tree: Path) -> Ownership:
    """Read the database of *tree*. Raises KilnError(ARTIFACT, "no-dpkg-status" or "bad-dpkg-status")."""
    packages = []
    for line in dpkg_manifest(tree).decode("utf-8").splitlines():
        key, version = line.split("\t")
        name, architecture = key.rsplit(":", 1)
        packages.append(DpkgPackage(name, architecture, version))
    rooted = RootedTree(tree)
    diverted = _diversions(rooted)
    owners: dict[bytes, set[str]] = {}
    md5: dict[bytes, tuple[str, str]] = {}
    for package in packages:

        def place(raw: bytes, package: DpkgPackage = package) -> bytes:
            raw = raw.strip(b"/")
            target, owner = diverted.get(raw, (raw, package.name))
            return rooted.resolve_parent(raw if owner == package.name else target)

        for listed in _info(rooted, package, "list").splitlines():
            if listed not in (b"/.", b""):
                owners.setdefault(place(listed), set()).add(package.id)
        for entry in _info(rooted, package, "md5sums").splitlines():
            if match := _MD5_LINE.fullmatch(entry):
                md5[place(match[2])] = (package.id, match[1].decode("ascii"))
    return Ownership(tuple(sorted(packages)), {path: tuple(sorted(ids)) for path, ids in owners.items()}, md5)


def _info(rooted: RootedTree, package: DpkgPackage, suffix: str) -> bytes:
    """Return a file of the database; multi-arch packages have their architecture in its name."""
    for stem in (package.id, package.name):
        data = rooted.read(f"{INFO}/{stem}.{suffix}".encode(), MAX_LIST_BYTES)
        if data is not None:
            return data
    return b""


def _diversions(rooted: RootedTree) -> dict[bytes, tuple[bytes, str]]:
    """Return original path -> (where it is now, package whose own file stays at the original path)."""
    lines = (rooted.read(DIVERSIONS.encode(), MAX_LIST_BYTES) or b"").splitlines()
    return {
        original.strip(b"/"): (target.strip(b"/"), package.decode("utf-8", "replace"))
        for original, target, package in zip(lines[::3], lines[1::3], lines[2::3], strict=False)
    }
