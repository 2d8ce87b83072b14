"""What is to be scanned: the components of an image directory, an SBOM (CycloneDX or SPDX), or a lock."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kiln.authoring.lock.document import LOCK_KIND, read_lock
from kiln.authoring.lock.model import IMAGE_TREE, Lock
from kiln.authoring.lock.purl import package_url
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln.linux.files import read_limited
from kiln.vulnerabilities.ecosystems import component_of, cpe_component
from kiln.vulnerabilities.model import Component
from kiln.vulnerabilities.result import Target
from kiln_wire import layout
from kiln_wire.canonical import CanonicalError, strict_loads
from kiln_wire.digest import Digest

MAX_DOCUMENT_BYTES: Final = 256 * 1024 * 1024
SOURCE_PROPERTY: Final = "kiln:source"
_SOURCE_INFO: Final = re.compile(r"built from the source package (\S+) (\S+)")


@dataclass(frozen=True, slots=True)
class Scannable:
    """A target with its components."""

    target: Target
    components: tuple[Component, ...]
    unnamed: int
    """Components without a package URL and a CPE name: nobody can say anything about them."""


def read_target(path: Path) -> Scannable:
    """Read what *path* is: an image directory, an image file in one, an SBOM or a lock.

    Raises KilnError(VULNERABILITY) `no-target` or `bad-target`, KilnError(LOCK, "bad-lock").
    """
    if path.is_dir():
        return _image(path)
    if not path.exists():
        raise _refuse("no-target", f"there is no {path}", ExitStatus.NOT_FOUND)
    if path.suffix in (".qcow2", ".squashfs") and (path.parent / layout.LOCK).exists():
        return _image(path.parent)
    data = read_limited(path, MAX_DOCUMENT_BYTES)
    return read_document(data, str(path))


def read_document(data: bytes, file: str) -> Scannable:
    """Read an SBOM or a lock. Raises as read_target does."""
    try:
        document: Any = strict_loads(data, max_bytes=MAX_DOCUMENT_BYTES)
    except CanonicalError as error:
        raise _refuse("bad-target", f"{file} is not JSON: {error}", ExitStatus.USAGE) from None
    target = ("sbom", Path(file).name, Digest.of(data))
    if isinstance(document, dict) and document.get("kind") == LOCK_KIND:
        return Scannable(Target("lock", *target[1:]), locked_components(read_lock(data, file)), 0)
    try:
        if isinstance(document, dict) and document.get("bomFormat") == "CycloneDX":
            return _scannable(Target("sbom", *target[1:]), _cyclonedx(document))
        if isinstance(document, dict) and str(document.get("spdxVersion", "")).startswith("SPDX-2"):
            return _scannable(Target("sbom", *target[1:]), _spdx(document))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        place = Place(file)
        raise KilnError(
            Domain.VULNERABILITY,
            "bad-target",
            f"the SBOM lacks what its specification asks for: {error!r}",
            place=place,
            hint="check it with its specification's own validator",
            exit_status=ExitStatus.USAGE,
        ) from None
    raise _refuse("bad-target", f"{file} is neither CycloneDX, nor SPDX 2, nor a lock", ExitStatus.USAGE)


def _image(directory: Path) -> Scannable:
    path = directory / layout.LOCK
    if not path.exists():
        raise _refuse("no-target", f"{directory} holds no {layout.LOCK}", ExitStatus.NOT_FOUND)
    disks = sorted(directory.glob("*.qcow2"))
    name = disks[0].name if len(disks) == 1 else directory.name
    verification = directory / layout.VERIFICATION
    digest = _disk_digest(verification) or Digest.of_file(disks[0] if len(disks) == 1 else path)
    return Scannable(Target("image", name, digest), locked_components(read_lock(path.read_bytes(), str(path))), 0)


def _disk_digest(path: Path) -> Digest | None:
    """Return the digest that the verification document states: hashing the disk takes longer than a scan."""
    try:
        return Digest.parse(strict_loads(path.read_bytes())["bindings"]["image"]["digest"])
    except (OSError, CanonicalError, KeyError, TypeError, ValueError):
        return None


def locked_components(lock: Lock) -> tuple[Component, ...]:
    """Return the packages of the image that a lock is for."""
    found = (
        component_of(package_url(package, lock.base), source=package.source, source_version=package.source_version)
        for package in lock.tree(IMAGE_TREE).packages
    )
    return tuple(item for item in found if item is not None)


def _scannable(target: Target, found: Iterator[Component | None]) -> Scannable:
    listed = list(found)
    components = tuple(item for item in listed if item is not None)
    return Scannable(target, components, len(listed) - len(components))


def _cyclonedx(document: Mapping[str, Any]) -> Iterator[Component | None]:
    pending = list(document.get("components") or ())
    while pending:
        item = pending.pop(0)
        pending += item.get("components") or ()
        if item.get("type") in ("file", "data"):
            continue
        properties = {entry["name"]: entry.get("value", "") for entry in item.get("properties") or ()}
        source, _, version = properties.get(SOURCE_PROPERTY, "").partition(" ")
        occurrences = (item.get("evidence") or {}).get("occurrences") or ()
        locations = tuple(str(entry["location"]) for entry in occurrences)
        yield _component(item.get("purl", ""), item.get("cpe", ""), item, source, version, locations)


def _spdx(document: Mapping[str, Any]) -> Iterator[Component | None]:
    described = set(document.get("documentDescribes") or ())
    for item in document.get("packages") or ():
        references = {entry["referenceType"]: entry["referenceLocator"] for entry in item.get("externalRefs") or ()}
        if item["SPDXID"] in described and "purl" not in references:
            continue
        match = _SOURCE_INFO.match(str(item.get("sourceInfo", "")))
        source, version = (match[1], match[2]) if match else ("", "")
        named = {"name": item["name"], "version": item.get("versionInfo", "")}
        yield _component(references.get("purl", ""), references.get("cpe23Type", ""), named, source, version, ())


def _component(
    purl: str, cpe: str, item: Mapping[str, Any], source: str, version: str, locations: tuple[str, ...]
) -> Component | None:
    found = component_of(purl, source=source, source_version=version, locations=locations) if purl else None
    if found is None and cpe and (named := cpe_component(cpe)) is not None:
        name = str(item.get("name", named[0]))
        return Component(purl or cpe, name, named[1], ("CPE",), named[0], named[1], locations)
    return found


def _refuse(reason: str, message: str, status: ExitStatus) -> KilnError:
    return KilnError(
        Domain.VULNERABILITY,
        reason,
        message,
        hint="give an image directory, an SBOM (CycloneDX or SPDX 2, JSON) or a kiln.lock",
        exit_status=status,
    )
