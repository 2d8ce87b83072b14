"""Which packages the documents of an image name: lock, SBOMs, provenance, dpkg-manifest.

Each function reads just what it needs to compare, raises ShapeError where that is not there, and takes nothing on
trust: a package URL must say the same as the fields beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import unquote

from kiln_wire.digest import Digest
from kiln_wire.statement import read_digest_set

INDEX_URI_PREFIX: Final = "urn:kiln:index:"
_PURL: Final = re.compile(r"pkg:deb/[a-z0-9.-]+/(?P<name>[^@/?#]+)@(?P<version>[^?#]+)\?(?P<qualifiers>[^#]+)")
_SHOWN: Final = 5

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class ShapeError(ValueError):
    """A document lacks what is read here, or has it in another form."""


@dataclass(frozen=True, slots=True, order=True)
class InstalledPackage:
    """A package as dpkg knows it."""

    name: str
    version: str
    architecture: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} {self.architecture}"


@dataclass(frozen=True, slots=True, order=True)
class PackageFile:
    """A package and the SHA-256 of its archive file."""

    package: InstalledPackage
    digest: Digest

    def __str__(self) -> str:
        return f"{self.package} {self.digest.hex[:12]}"


@dataclass(frozen=True, slots=True, order=True)
class Index:
    """A signed index of an archive."""

    uri: str
    digest: Digest

    def __str__(self) -> str:
        return f"{self.uri} {self.digest.hex[:12]}"


def _shaped(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    def read(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise ShapeError(f"{type(error).__name__}: {str(error)[:200]}") from None

    return read


@_shaped
def lock_packages(lock: Any, tree: str | None) -> frozenset[PackageFile]:
    """Return the packages of one tree of a lock, or of all."""
    return _unique(
        (
            PackageFile(InstalledPackage(item["name"], item["version"], item["architecture"]), _digest(item["digest"]))
            for part in lock["trees"]
            if tree is None or part["name"] == tree
            for item in part["packages"]
        ),
        once=tree is not None,
    )


@_shaped
def lock_indexes(lock: Any) -> frozenset[Index]:
    """Return the indexes that a lock was made from."""
    return frozenset(
        Index(index_uri(item["mirror"], item["suite"]), _digest(item["digest"])) for item in lock["indexes"]
    )


@_shaped
def cyclonedx_packages(document: Any) -> frozenset[PackageFile]:
    """Return the components of a CycloneDX document, each of which must be a Debian package with one SHA-256."""
    return _unique(
        _stated(item["purl"], item["name"], item["version"], _only(item["hashes"], "alg", "SHA-256")["content"])
        for item in document["components"]
    )


@_shaped
def spdx_packages(document: Any) -> frozenset[PackageFile]:
    """Return the packages of an SPDX document but the one that the document describes: the image."""
    described = document["documentDescribes"]
    return _unique(
        _stated(
            _only(item["externalRefs"], "referenceType", "purl")["referenceLocator"],
            item["name"],
            item["versionInfo"],
            _only(item["checksums"], "algorithm", "SHA256")["checksumValue"],
        )
        for item in document["packages"]
        if item["SPDXID"] not in described
    )


@_shaped
def provenance_packages(predicate: Any) -> frozenset[PackageFile]:
    """Return the packages among the resolved dependencies of a SLSA provenance."""
    return _unique(
        PackageFile(read_purl(item["uri"]), read_digest_set(item["digest"]))
        for item in predicate["buildDefinition"]["resolvedDependencies"]
        if item["uri"].startswith("pkg:")
    )


@_shaped
def provenance_indexes(predicate: Any) -> frozenset[Index]:
    """Return the indexes among the resolved dependencies, which must be packages or indexes."""
    others = [
        item for item in predicate["buildDefinition"]["resolvedDependencies"] if not item["uri"].startswith("pkg:")
    ]
    for item in others:
        if not item["uri"].startswith(INDEX_URI_PREFIX):
            raise ShapeError(f"{item['uri'][:80]} is neither a package nor an index")
    return frozenset(Index(item["uri"], read_digest_set(item["digest"])) for item in others)


@_shaped
def manifest_packages(data: bytes) -> frozenset[InstalledPackage]:
    """Read a dpkg-manifest: sorted lines `name:architecture TAB version`."""
    lines = data.decode("utf-8").splitlines(keepends=True)
    packages = []
    for line in lines:
        key, version = line.removesuffix("\n").split("\t")
        name, architecture = key.split(":")
        packages.append(InstalledPackage(name, version, architecture))
    if lines != sorted(set(lines)) or not data.endswith(b"\n"):
        raise ShapeError("the lines are not sorted, or not unique, or the last one does not end")
    return frozenset(packages)


def index_uri(mirror: str, suite: str) -> str:
    """Return how an index is named in provenance: by logical mirror name, never by host."""
    return f"{INDEX_URI_PREFIX}{mirror}:{suite}"


def read_purl(purl: str) -> InstalledPackage:
    """Read a package URL of the type deb with the qualifier `arch`. Raises ShapeError."""
    match = _PURL.fullmatch(purl)
    if match is None:
        raise ShapeError(f"{purl[:120]!r} is not the package URL of a Debian package")
    qualifiers = dict(item.split("=", 1) for item in match["qualifiers"].split("&"))
    return InstalledPackage(unquote(match["name"]), unquote(match["version"]), unquote(qualifiers.get("arch", "")))


def difference(expected: Iterable[object], got: Iterable[object]) -> tuple[str, str]:
    """Return what is missing from *got* and what it has too much, as short texts; empty where nothing is."""
    wanted, there = {str(item) for item in expected}, {str(item) for item in got}
    return _some(wanted - there), _some(there - wanted)


def _some(items: set[str]) -> str:
    shown = ", ".join(sorted(items)[:_SHOWN])
    return f"{shown} and {len(items) - _SHOWN} more" if len(items) > _SHOWN else shown


def _stated(purl: str, name: str, version: str, sha256: str) -> PackageFile:
    package = read_purl(purl)
    if (package.name, package.version) != (name, version):
        raise ShapeError(f"{purl[:120]} stands beside {name[:80]} {version[:80]}")
    return PackageFile(package, Digest("sha256", sha256))


def _digest(text: Any) -> Digest:
    return Digest.parse(text)


def _only(items: Any, key: str, value: str) -> Any:
    (item,) = (item for item in items if item[key] == value)
    return item


def _unique(items: Iterable[PackageFile], *, once: bool = True) -> frozenset[PackageFile]:
    listed = list(items)
    result = frozenset(listed)
    if once and len(result) != len(listed):
        raise ShapeError("a package is named twice")
    return result
