"""CycloneDX 1.6 (ECMA-424) as JSON, written directly: the libraries' models take quadratic time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kiln.artifact.stock import StockedPackage, TreeFile
from kiln.attestation.components import Bill, Component, epoch_text, package_id
from kiln_wire.digest import Digest

_IMAGE_REF = "image"


def cyclonedx(bill: Bill) -> dict[str, Any]:
    """Return the SBOM of the image: the same lock and the same image give the same document.

    The image contains every package, so it depends on each; edges between packages are those of the lock. Where a
    package's files lie stands in its evidence; files that no package owns are parts of the image, with their digests.
    """
    listed, licences, files = bill.components, bill.licences(), bill.files()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{bill.uuid}",
        "version": 1,
        "metadata": {
            "timestamp": epoch_text(bill.lock.epoch),
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "kiln", "version": bill.kiln_version}]},
            "component": _image(bill, files.get("", ())),
            "properties": [{"name": "kiln:lock", "value": str(bill.lock_digest)}],
        },
        "components": [
            _component(item, licences.get(package_id(item.package)), files.get(package_id(item.package), ()))
            for item in listed
        ],
        "dependencies": [
            {"ref": _IMAGE_REF, "dependsOn": sorted(item.purl for item in listed)},
            *({"ref": item.purl, "dependsOn": list(item.depends)} for item in listed),
        ],
    }


def _image(bill: Bill, unowned: Sequence[TreeFile]) -> dict[str, Any]:
    return {
        "type": "operating-system",
        "bom-ref": _IMAGE_REF,
        "name": bill.name,
        "hashes": _hashes(bill.disk.digest),
        "components": [
            {
                "type": "file",
                "bom-ref": f"file:{artifact.name}",
                "name": artifact.name,
                "mime-type": artifact.media_type,
                "hashes": _hashes(artifact.digest),
            }
            for artifact in bill.artifacts
        ]
        + [
            {"type": "file", "bom-ref": f"file:{file.path}", "name": file.path, "hashes": _hashes(file.digest)}
            for file in unowned
            if file.digest is not None
        ],
        "properties": [
            {"name": "kiln:base", "value": bill.lock.base},
            {"name": "kiln:architecture", "value": bill.lock.architecture},
        ],
    }


def _component(item: Component, licence: StockedPackage | None, files: Sequence[TreeFile]) -> dict[str, Any]:
    package = item.package
    result: dict[str, Any] = {
        "type": "library",
        "bom-ref": item.purl,
        "supplier": {"name": item.supplier},
        "name": package.name,
        "version": package.version,
        "scope": "required",
        "purl": item.purl,
        "hashes": _hashes(package.digest),
        "properties": [
            {"name": "kiln:source", "value": f"{package.source} {package.source_version}"},
            {"name": "kiln:reason", "value": package.reason},
        ],
    }
    if licence is not None:
        how = "declared" if licence.licence_source == "dep5" else "concluded"
        result["licenses"] = [{"expression": licence.licence, "acknowledgement": how}]
    if files:
        result["evidence"] = {"occurrences": [{"location": file.path} for file in files]}
    return result


def _hashes(digest: Digest) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest.hex}]
