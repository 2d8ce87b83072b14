"""The lock: every input of an image by digest, the complete graph, mirrors by logical name only.

The lock is deterministic: the same resolution and the same indexes give the same bytes. It holds no time of
its own making (its epoch is the newest date that a signed index carries) and no host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kiln_wire.digest import Digest

BUILD_TREE: Final = "build"
IMAGE_TREE: Final = "image"


@dataclass(frozen=True, slots=True)
class LockedIndex:
    """A signed index that was read: which one, what it said, who signed it."""

    mirror: str
    suite: str
    components: tuple[str, ...]
    digest: Digest
    """Of the InRelease file's bytes."""
    date: str
    """The index's own `Date`, RFC 3339 in UTC."""
    valid_until: str
    """RFC 3339 in UTC, or empty where the index has none."""
    signed_by: tuple[str, ...]
    """Fingerprints of the keys whose signatures were verified, sorted."""


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One binary package of a tree."""

    name: str
    version: str
    architecture: str
    mirror: str
    suite: str
    path: str
    """Below the mirror's root, as the index names it (`pool/...`)."""
    size_bytes: int
    digest: Digest
    source: str
    source_version: str
    installed_size_bytes: int
    essential: bool
    depends: tuple[str, ...]
    """Names of the packages in the same tree that its Pre-Depends and Depends are satisfied by, sorted."""
    reason: str
    """Why it is in: `feature docker`, or the shortest chain from there: `feature docker > docker.io > containerd`."""


@dataclass(frozen=True, slots=True)
class LockedTree:
    """The packages of one tree (`build` or `image`), sorted by name and architecture."""

    name: str
    packages: tuple[LockedPackage, ...]

    @property
    def download_bytes(self) -> int:
        """Sum of the sizes of all packages."""
        return sum(package.size_bytes for package in self.packages)


@dataclass(frozen=True, slots=True)
class Lock:
    """Every input by digest."""

    recipe_digest: Digest
    resolution_digest: Digest
    base: str
    architecture: str
    epoch: int
    """SOURCE_DATE_EPOCH: seconds since 1970 of the newest index's `Date`."""
    indexes: tuple[LockedIndex, ...]
    trees: tuple[LockedTree, ...]

    def tree(self, name: str) -> LockedTree:
        """Return the tree of that name. Raises KeyError."""
        for tree in self.trees:
            if tree.name == name:
                return tree
        raise KeyError(name)
