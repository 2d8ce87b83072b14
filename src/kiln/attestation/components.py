"""The packages of a locked tree as SBOMs name them: package URLs, edges, supplier. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid5

from kiln.artifact.model import Artifact
from kiln.artifact.stock import Inventory, StockedPackage, TreeFile
from kiln.authoring.lock.model import Lock, LockedPackage, LockedTree
from kiln.authoring.lock.purl import distribution, package_url
from kiln_wire.canonical import canonical_json
from kiln_wire.codec import encode
from kiln_wire.digest import Digest

# Namespace of every UUID that Kiln derives; itself the UUIDv5 of the name below in the URL namespace of RFC 9562.
NAMESPACE = uuid5(UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8"), "urn:kiln:sbom:v1")


@dataclass(frozen=True, slots=True)
class Component:
    """A package of a tree, with the package URLs of what it depends on."""

    package: LockedPackage
    purl: str
    supplier: str
    depends: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bill:
    """What both SBOMs of an image are written from; nothing in it depends on when or where it was built."""

    name: str
    lock: Lock
    lock_digest: Digest
    artifacts: tuple[Artifact, ...]
    components: tuple[Component, ...]
    inventory: Inventory
    kiln_version: str

    @property
    def disk(self) -> Artifact:
        """The artifact that boots."""
        return next(artifact for artifact in self.artifacts if artifact.role == "disk")

    def licences(self) -> Mapping[str, StockedPackage]:
        """Return id of a package -> what the tree says about its licence, where it says something."""
        return {f"{item.name}:{item.architecture}": item for item in self.inventory.packages if item.licence}

    def files(self) -> Mapping[str, Sequence[TreeFile]]:
        """Return id of a package (empty for none) -> its regular files; a file of several is the first one's."""
        owned: dict[str, list[TreeFile]] = {}
        for file in self.inventory.files:
            if file.type == "file":
                owned.setdefault(file.packages[0] if file.packages else "", []).append(file)
        return owned

    @property
    def uuid(self) -> UUID:
        """An identity that depends on the lock and the image's bytes, and on nothing else."""
        identity = {"lock": str(self.lock_digest), "artifacts": encode(self.artifacts)}
        return uuid5(NAMESPACE, canonical_json(identity).decode("utf-8"))


def package_id(package: LockedPackage) -> str:
    """Return `name:architecture`, by which an inventory names a package."""
    return f"{package.name}:{package.architecture}"


def components(lock: Lock, tree: LockedTree) -> tuple[Component, ...]:
    """Return the packages of *tree* in its own order; an edge goes to the same architecture where there are several."""
    purls = [package_url(package, lock.base) for package in tree.packages]
    by_name: dict[str, dict[str, str]] = {}
    for package, purl in zip(tree.packages, purls, strict=True):
        by_name.setdefault(package.name, {})[package.architecture] = purl
    supplier = distribution(lock.base).capitalize()
    return tuple(
        Component(package, purl, supplier, tuple(sorted(_targets(package, by_name))))
        for package, purl in zip(tree.packages, purls, strict=True)
    )


def _targets(package: LockedPackage, by_name: dict[str, dict[str, str]]) -> set[str]:
    targets: set[str] = set()
    for name in package.depends:
        candidates = by_name.get(name, {})
        preferred = candidates.get(package.architecture)
        targets.update([preferred] if preferred else candidates.values())
    return targets


def epoch_text(epoch: int) -> str:
    """Return seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
