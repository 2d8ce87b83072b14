"""in-toto Statements of version 1: what is claimed (a predicate) about which files (subjects, by digest).

Reference: in-toto Attestation Framework, statement.md (v1) and digest_set.md. Read strictly: no unknown keys, at
least one subject, every subject with a name of its own and a SHA-256.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads
from kiln_wire.digest import Digest, DigestError

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
OLD_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v0.1"
PROVENANCE_TYPE: Final = "https://slsa.dev/provenance/v1"
CYCLONEDX_TYPE: Final = "https://cyclonedx.org/bom"
SPDX_TYPE: Final = "https://spdx.dev/Document"  # what cosign calls spdxjson
TEST_RESULT_TYPE: Final = "https://in-toto.io/attestation/test-result/v0.1"
OPENVEX_TYPE: Final = "https://openvex.dev/ns"  # without a version: what cosign calls openvex
VULNERABILITIES_TYPE: Final = "https://in-toto.io/attestation/vulns/v0.2"
BUILD_LOG_TYPE: Final = "urn:kiln:predicate:build-log:v1"
LICENCES_TYPE: Final = "urn:kiln:predicate:licences:v1"
REPRODUCTION_TYPE: Final = "urn:kiln:predicate:reproduction:v1"
VERIFICATION_TYPE: Final = "urn:kiln:predicate:verification:v1"
RECORD_TYPE: Final = "urn:kiln:predicate:record:v1"
APPROVAL_TYPE: Final = "urn:kiln:predicate:approval:v1"
SIGNATURE_TYPE: Final = "https://sigstore.dev/cosign/sign/v1"  # cosign's: no claim but "I have signed this"
_MAX_NAME_LENGTH: Final = 255  # NAME_MAX


class StatementError(ValueError):
    """The bytes are not a statement in the expected form."""


@dataclass(frozen=True, slots=True, order=True)
class Subject:
    """A file that a statement is about: its name without directories, and its SHA-256."""

    name: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Statement:
    """A claim about files; *predicate* is a JSON object whose form *predicate_type* names."""

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: dict[str, Any]


def statement_json(subjects: Sequence[Subject], predicate_type: str, predicate: object) -> bytes:
    """Return the canonical bytes of a statement, its subjects sorted."""
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": item.name, "digest": digest_set(item.digest)} for item in sorted(subjects)],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )


def digest_set(digest: Digest) -> dict[str, str]:
    """Return in-toto's spelling of a digest, `{"sha256": "<hex>"}`."""
    return {digest.algorithm: digest.hex}


def read_digest_set(value: object) -> Digest:
    """Read `{"sha256": "<hex>"}`, which must be all there is. Raises StatementError."""
    if not isinstance(value, dict) or set(value) != {"sha256"} or not isinstance(value["sha256"], str):
        raise StatementError("a digest set must have sha256 and nothing else")
    try:
        return Digest("sha256", value["sha256"])
    except DigestError as error:
        raise StatementError(str(error)) from None


def read_statement(payload: bytes, *, foreign: bool = False) -> Statement:
    """Read a statement out of the verified payload of an envelope; with *foreign* also as cosign writes it.

    Raises StatementError.
    """
    try:
        document = strict_loads(payload)
    except CanonicalError as error:
        raise StatementError(str(error)) from None
    if not isinstance(document, dict) or set(document) != {"_type", "subject", "predicateType", "predicate"}:
        raise StatementError("a statement must have _type, subject, predicateType and predicate, no others")
    if document["_type"] not in ((STATEMENT_TYPE, OLD_STATEMENT_TYPE) if foreign else (STATEMENT_TYPE,)):
        raise StatementError(f"_type is not {STATEMENT_TYPE}")
    if not isinstance(document["predicateType"], str) or not document["predicateType"]:
        raise StatementError("predicateType is not a string")
    if not isinstance(document["predicate"], dict):
        raise StatementError("predicate is not an object")
    subjects = _foreign_subjects(document["subject"]) if foreign else _subjects(document["subject"])
    return Statement(subjects, document["predicateType"], document["predicate"])


def _subjects(value: object) -> tuple[Subject, ...]:
    if not isinstance(value, list) or not value:
        raise StatementError("there is no subject")
    subjects = []
    for item in value:
        if not isinstance(item, dict) or set(item) != {"name", "digest"}:
            raise StatementError("a subject must have a name and a digest, nothing else")
        name = item["name"]
        if not isinstance(name, str) or not is_plain_name(name):
            raise StatementError("a subject's name must be the name of a file without directories")
        subjects.append(Subject(name, read_digest_set(item["digest"])))
    if len({subject.name for subject in subjects}) != len(subjects):
        raise StatementError("two subjects have the same name")
    return tuple(sorted(subjects))


def _foreign_subjects(value: object) -> tuple[Subject, ...]:
    """Read subjects by their SHA-256 alone: other tools name repositories, or nothing, and add other digests."""
    try:
        found = {item["digest"]["sha256"]: str(item.get("name", "")) for item in value}  # type: ignore[attr-defined]
        subjects = tuple(sorted(Subject(name, Digest("sha256", digest)) for digest, name in found.items()))
    except (KeyError, TypeError, AttributeError, DigestError) as error:
        raise StatementError(f"a subject has no SHA-256: {error}") from None
    if not subjects:
        raise StatementError("there is no subject")
    return subjects


def is_plain_name(name: str) -> bool:
    """Whether *name* can be a file's name, without directories and without characters that hide something."""
    return 0 < len(name) <= _MAX_NAME_LENGTH and name not in (".", "..") and "/" not in name and name.isprintable()
