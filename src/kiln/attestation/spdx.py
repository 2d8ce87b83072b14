"""SPDX 2.3 (ISO/IEC 5962 and its successor) as JSON, written directly. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from kiln.artifact.stock import StockedPackage, TreeFile
from kiln.attestation.components import Bill, Component, epoch_text, package_id
from kiln_wire.digest import Digest

_DOCUMENT: Final = "SPDXRef-DOCUMENT"
_IMAGE: Final = "SPDXRef-Image"
_NOT_IN_ID: Final = re.compile(r"[^A-Za-z0-9.-]")
_UNKNOWN: Final = "NOASSERTION"


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
    groups = [(_IMAGE, owned.get("", ()))]
    groups += [(ids[item.purl], owned.get(package_id(item.package), ())) for item in listed]
    files = [(f"SPDXRef-File-{number}", owner, file) for number, (owner, file) in enumerate(_each(groups), start=1)]
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
            _image(bill, groups[0][1]),
            *(
                _package(item, spdx_id, licences.get(package_id(item.package)), content)
                for item, (spdx_id, content) in zip(listed, groups[1:], strict=True)
            ),
        ],
        "relationships": [
            _relationship(_DOCUMENT, "DESCRIBES", _IMAGE),
            *(_relationship(_IMAGE, "CONTAINS", ids[item.purl]) for item in listed),
            *(_relationship(ids[item.purl], "DEPENDS_ON", ids[target]) for item in listed for target in item.depends),
            *(_relationship(owner, "CONTAINS", file_id) for file_id, owner, _ in files),
        ],
    }
    if files:
        document["files"] = [_file(file_id, file) for file_id, _, file in files]
    if bill.inventory.licence_texts:
        document["hasExtractedLicensingInfos"] = [
            {"licenseId": reference, "name": reference.removeprefix("LicenseRef-"), "extractedText": text}
            for reference, text in bill.inventory.licence_texts
        ]
    return document


def _each(groups: Iterable[tuple[str, Sequence[TreeFile]]]) -> Iterator[tuple[str, TreeFile]]:
    for owner, files in groups:
        for file in files:
            yield owner, file


def _file(spdx_id: str, file: TreeFile) -> dict[str, Any]:
    checksums = [{"algorithm": "SHA1", "checksumValue": file.sha1}]
    if file.digest is not None:
        checksums += _checksums(file.digest)
    return {"SPDXID": spdx_id, "fileName": f".{file.path}", "checksums": checksums}


def _analysed(files: Sequence[TreeFile]) -> dict[str, Any]:
    """Return what a package says about its files; the code is the SHA-1 of their sorted SHA-1s (section 7.9)."""
    if not files:
        return {"filesAnalyzed": False}
    joined = "".join(sorted(file.sha1 for file in files)).encode("ascii")
    code = hashlib.sha1(joined, usedforsecurity=False).hexdigest()
    return {"filesAnalyzed": True, "packageVerificationCode": {"packageVerificationCodeValue": code}}


def _image(bill: Bill, unowned: Sequence[TreeFile]) -> dict[str, Any]:
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


def _package(
    item: Component, spdx_id: str, licence: StockedPackage | None, files: Sequence[TreeFile]
) -> dict[str, Any]:
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
        **_analysed(files),
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
