"""The packages of a locked tree as SBOMs name them: package URLs, edges, supplier. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import UUID, uuid5

from kiln.artifact.model import Artifact
from kiln.authoring.lock.model import Lock, LockedPackage, LockedTree
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
    licences: Mapping[str, str]
    """Name of a package -> SPDX licence expression, where it is known."""
    kiln_version: str

    @property
    def disk(self) -> Artifact:
        """The artifact that boots."""
        return next(artifact for artifact in self.artifacts if artifact.role == "disk")

    @property
    def uuid(self) -> UUID:
        """An identity that depends on the lock and the image's bytes, and on nothing else."""
        identity = {"lock": str(self.lock_digest), "artifacts": encode(self.artifacts)}
        return uuid5(NAMESPACE, canonical_json(identity).decode("utf-8"))


def distribution(base: str) -> str:
    """Return the distribution of a base such as `debian-12`."""
    return base.partition("-")[0]


def package_url(package: LockedPackage, base: str) -> str:
    """Return `pkg:deb/debian/name@version?arch=amd64&distro=debian-12`, the form that scanners emit.

    Spelled here and not by packageurl, which takes ten times as long; a test holds the two together.
    """
    name, version = quote(package.name, safe=""), quote(package.version, safe=":")
    return f"pkg:deb/{distribution(base)}/{name}@{version}?arch={package.architecture}&distro={base}"


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
