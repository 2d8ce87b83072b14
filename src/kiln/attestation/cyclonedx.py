"""CycloneDX 1.6 (ECMA-424) as JSON, written directly: the libraries' models take quadratic time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiln.attestation.components import Bill, Component, epoch_text
from kiln_wire.digest import Digest

_IMAGE_REF = "image"


def cyclonedx(bill: Bill) -> dict[str, Any]:
    """Return the SBOM of the image: the same lock and the same image give the same document.

    The image contains every package, so it depends on each; edges between packages are those of the lock.
    """
    listed = bill.components
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{bill.uuid}",
        "version": 1,
        "metadata": {
            "timestamp": epoch_text(bill.lock.epoch),
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "kiln", "version": bill.kiln_version}]},
            "component": _image(bill),
            "properties": [{"name": "kiln:lock", "value": str(bill.lock_digest)}],
        },
        "components": [_component(item, bill.licences) for item in listed],
        "dependencies": [
            {"ref": _IMAGE_REF, "dependsOn": sorted(item.purl for item in listed)},
            *({"ref": item.purl, "dependsOn": list(item.depends)} for item in listed),
        ],
    }


def _image(bill: Bill) -> dict[str, Any]:
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
        ],
        "properties": [
            {"name": "kiln:base", "value": bill.lock.base},
            {"name": "kiln:architecture", "value": bill.lock.architecture},
        ],
    }


def _component(item: Component, licences: Mapping[str, str]) -> dict[str, Any]:
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
    if licence := licences.get(package.name):
        result["licenses"] = [{"expression": licence}]
    return result


def _hashes(digest: Digest) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": digest.hex}]
