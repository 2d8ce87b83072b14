"""SPDX 2.3 (ISO/IEC 5962 and its successor) as JSON, written directly. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kiln.artifact.stock import StockedPackage, TreeFile
from kiln.attestation.components import Bill, Component, epoch_text, package_id
from kiln_wire.digest import Digest

_DOCUMENT: Final = "SPDXRef-DOCUMENT"
_IMAGE: Final = "SPDXRef-Image"
_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9.-]")
_UNKNOWN: Final = "NOASSERTION"


@dataclass(frozen=True, slots=True)
class _Content:
    """The files of a package with their ids in the document."""

    files: Sequence[TreeFile]
    ids: list[str]


def spdx(bill: Bill) -> dict[str, Any]:
    """Return the SBOM of the image: the same lock and the same image give the same document.

    It holds the file inventory: each package contains its regular files, the image itself those that no package owns.
    """
    listed, licences, owned = bill.components, bill.licences(), bill.files()
    # SPDX ids have a small alphabet: the position keeps `libstdc++6` and `libstdc--6` apart
    ids = {
        item.purl: f"SPDXRef-Package-{number}-{_NOT_IN_ID.sub('-', item.package.name)}"
        for number, item in enumerate(listed, start=1)
    }
    groups = [owned.get("", ()), *(owned.get(package_id(item.package), ()) for item in listed)]
    files = [file for group in groups for file in group]
    file_ids = (f"SPDXRef-File-{number}" for number in range(1, len(files) + 1))
    contents = [_Content(group, [next(file_ids) for _ in group]) for group in groups]
    document: dict[str, Any] = {
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
        "packages": [
            _image(bill, contents[0]),
            *(
                _package(item, ids[item.purl], licences.get(package_id(item.package)), content)
                for item, content in zip(listed, contents[1:], strict=True)
            ),
        ],
        "relationships": [
            _relationship(_DOCUMENT, "DESCRIBES", _IMAGE),
            *(_relationship(_IMAGE, "CONTAINS", ids[item.purl]) for item in listed),
            *(_relationship(ids[item.purl], "DEPENDS_ON", ids[target]) for item in listed for target in item.depends),
        ],
    }
    if files:
        document["files"] = [
            _file(spdx_id, file)
            for content in contents
            for spdx_id, file in zip(content.ids, content.files, strict=True)
        ]
    if bill.inventory.licence_texts:
        document["hasExtractedLicensingInfos"] = [
            {"licenseId": reference, "name": reference.removeprefix("LicenseRef-"), "extractedText": text}
            for reference, text in bill.inventory.licence_texts
        ]
    return document


def _file(spdx_id: str, file: TreeFile) -> dict[str, Any]:
    checksums = [{"algorithm": "SHA1", "checksumValue": file.sha1}]
    if file.digest is not None:
        checksums += _checksums(file.digest)
    return {"SPDXID": spdx_id, "fileName": f".{file.path}", "checksums": checksums}


def _analysed(content: _Content) -> dict[str, Any]:
    """Return what a package says about its files; the code is the SHA-1 of their sorted SHA-1s (section 7.9).

    `hasFiles` and not a relationship for each file: an image of a desktop has 150,000, and its SBOM must stay below
    what a verifier reads. Both mean the same (section 11.1, CONTAINS).
    """
    if not content.files:
        return {"filesAnalyzed": False}
    joined = "".join(sorted(file.sha1 for file in content.files)).encode("ascii")
    code = hashlib.sha1(joined, usedforsecurity=False).hexdigest()
    return {
        "filesAnalyzed": True,
        "hasFiles": content.ids,
        "packageVerificationCode": {"packageVerificationCodeValue": code},
    }


def _image(bill: Bill, unowned: _Content) -> dict[str, Any]:
    others = ", ".join(f"{artifact.name} {artifact.digest}" for artifact in bill.artifacts)
    return {
        "SPDXID": _IMAGE,
        "name": bill.name,
        "packageFileName": bill.disk.name,
        "primaryPackagePurpose": "OPERATING-SYSTEM",
        "downloadLocation": _UNKNOWN,
        **_analysed(unowned),
        "checksums": _checksums(bill.disk.digest),
        "comment": f"{bill.lock.base}, {bill.lock.architecture}; {others}",
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": _UNKNOWN,
        "copyrightText": _UNKNOWN,
    }


def _package(item: Component, spdx_id: str, licence: StockedPackage | None, content: _Content) -> dict[str, Any]:
    package = item.package
    expression = licence.licence if licence is not None else _UNKNOWN
    declared = licence is not None and licence.licence_source == "dep5"
    return {
        "SPDXID": spdx_id,
        "name": package.name,
        "versionInfo": package.version,
        "packageFileName": package.path.rpartition("/")[2],
        "supplier": f"Organization: {item.supplier}",
        "downloadLocation": _UNKNOWN,
        **_analysed(content),
        "checksums": _checksums(package.digest),
        "sourceInfo": f"built from the source package {package.source} {package.source_version}",
        "licenseConcluded": expression,
        "licenseDeclared": expression if declared else _UNKNOWN,
        "copyrightText": _UNKNOWN,
        "externalRefs": [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": item.purl}
        ],
    }


def _checksums(digest: Digest) -> list[dict[str, str]]:
    return [{"algorithm": "SHA256", "checksumValue": digest.hex}]


def _relationship(source: str, kind: str, target: str) -> dict[str, str]:
    return {"spdxElementId": source, "relationshipType": kind, "relatedSpdxElement": target}
