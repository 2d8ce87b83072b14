"""SPDX 2.3 (ISO/IEC 5962 and its successor) as JSON, written directly. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from kiln.attestation.components import Bill, Component, epoch_text
from kiln_wire.digest import Digest

_DOCUMENT: Final = "SPDXRef-DOCUMENT"
_IMAGE: Final = "SPDXRef-Image"
_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9.-]")
_UNKNOWN: Final = "NOASSERTION"


def spdx(bill: Bill) -> dict[str, Any]:
    """Return the SBOM of the image: the same lock and the same image give the same document."""
    listed = bill.components
    # SPDX ids have a small alphabet: the position keeps `libstdc++6` and `libstdc--6` apart
    ids = {
        item.purl: f"SPDXRef-Package-{number}-{_NOT_IN_ID.sub('-', item.package.name)}"
        for number, item in enumerate(listed, start=1)
    }
    return {
        "spdxVersion": "SPDX-2.3",
        "SPDXID": _DOCUMENT,
        "dataLicense": "CC0-1.0",
        "name": bill.name,
        "documentNamespace": f"urn:uuid:{bill.uuid}",
        "creationInfo": {
            "created": epoch_text(bill.lock.epoch),
            "creators": [f"Tool: kiln-{bill.kiln_version}"],
        },
        "documentDescribes": [_IMAGE],
        "packages": [_image(bill), *(_package(item, ids[item.purl], bill.licences) for item in listed)],
        "relationships": [
            _relationship(_DOCUMENT, "DESCRIBES", _IMAGE),
            *(_relationship(_IMAGE, "CONTAINS", ids[item.purl]) for item in listed),
            *(_relationship(ids[item.purl], "DEPENDS_ON", ids[target]) for item in listed for target in item.depends),
        ],
    }


def _image(bill: Bill) -> dict[str, Any]:
    others = ", ".join(f"{artifact.name} {artifact.digest}" for artifact in bill.artifacts)
    return {
        "SPDXID": _IMAGE,
        "name": bill.name,
        "packageFileName": bill.disk.name,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "checksums": _checksums(bill.disk.digest),
        "comment": f"{bill.lock.base}, {bill.lock.architecture}; {others}",
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": _UNKNOWN,
        "copyrightText": _UNKNOWN,
    }


def _package(item: Component, spdx_id: str, licences: Mapping[str, str]) -> dict[str, Any]:
    package = item.package
    return {
        "SPDXID": spdx_id,
        "name": package.name,
        "versionInfo": package.version,
        "packageFileName": package.path.rpartition("/")[2],
        "supplier": f"Organization: {item.supplier}",
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "checksums": _checksums(package.digest),
        "sourceInfo": f"built from the source package {package.source} {package.source_version}",
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": licences.get(package.name, _UNKNOWN),
        "copyrightText": _UNKNOWN,
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": item.purl}
        ],
    }


def _checksums(digest: Digest) -> list[dict[str, str]]:
    return [{"algorithm": "SHA256", "checksumValue": digest.hex}]


def _relationship(source: str, kind: str, target: str) -> dict[str, str]:
    return {"spdxElementId": source, "relationshipType": kind, "relatedSpdxElement": target}
