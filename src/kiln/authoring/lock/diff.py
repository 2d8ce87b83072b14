"""What changed from one lock to another: packages by tree, and the indexes they were chosen from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kiln.authoring.lock.model import Lock, LockedPackage, LockedTree
from kiln.authoring.lock.versions import compare_versions

Kind = Literal["added", "removed", "upgraded", "downgraded", "rebuilt"]


@dataclass(frozen=True, slots=True)
class PackageChange:
    """One package that is not the same in both locks; a version is empty where the package is not there.

    *rebuilt* means the same version with other bytes, which an archive must never do.
    """

    tree: str
    name: str
    architecture: str
    kind: Kind
    before: str
    after: str
    reason: str
    size_bytes: int
    """How many bytes larger the download becomes; negative for smaller."""


def diff_locks(before: Lock, after: Lock) -> list[PackageChange]:
    """Return the changes, by tree, then by name."""
    trees = dict.fromkeys(tree.name for lock in (before, after) for tree in lock.trees)
    return [change for name in trees for change in _diff(name, _packages(before, name), _packages(after, name))]


Packages = dict[tuple[str, str], LockedPackage]


def _packages(lock: Lock, name: str) -> Packages:
    found = next((tree for tree in lock.trees if tree.name == name), LockedTree(name, ()))
    return {(package.name, package.architecture): package for package in found.packages}


def _diff(tree: str, before: Packages, after: Packages) -> list[PackageChange]:
    changes = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is not None and new is not None and old.digest == new.digest:
            continue
        changes.append(
            PackageChange(
                tree=tree,
                name=key[0],
                architecture=key[1],
                kind=_kind(old, new),
                before=old.version if old else "",
                after=new.version if new else "",
                reason=(new or before[key]).reason,
                size_bytes=(new.size_bytes if new else 0) - (old.size_bytes if old else 0),
            )
        )
    return changes


def _kind(old: LockedPackage | None, new: LockedPackage | None) -> Kind:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    order = compare_versions(new.version, old.version)
    return "upgraded" if order > 0 else "downgraded" if order < 0 else "rebuilt"
