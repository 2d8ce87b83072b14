"""Add a signed statement to a finished image directory: an approval, a scan, anything that somebody else claims."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from kiln.attestation.signer import Signer, Stamper, sign_statement
from kiln.attestation.trust import refused
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux.files import write_atomic
from kiln_wire import layout
from kiln_wire.dsse import BundleError, read_bundle
from kiln_wire.statement import Statement, StatementError, read_statement, statement_json

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def approval(approver: str, reason: str, now: str, expires: str) -> dict[str, Any]:
    """Return the predicate of an approval; times are RFC 3339, *expires* may be empty."""
    predicate = {"decision": "approved", "approver": approver, "reason": reason, "approvedOn": now}
    return {**predicate, "expiresOn": expires} if expires else predicate


def add_statement(
    image: Path, name: str, predicate_type: str, predicate: Any, signer: Signer, *, stamper: Stamper | None = None
) -> Path:
    """Sign a statement about the subjects of the image's own statements; write it as `attestations/<name>...`.

    Raises KilnError(ATTESTATION): `bad-name`, `no-image`, `statement-known` (the types that a build writes).
    """
    if _NAME.fullmatch(name) is None:
        raise refused("bad-name", f"{name[:80]!r} can't name a statement", "use small letters, digits and `-`")
    if predicate_type in layout.KNOWN_STATEMENTS.values():
        raise refused("statement-known", f"{predicate_type} is stated by the build alone", "choose another type")
    subjects = _leading(image).subjects
    path = image / layout.ATTESTATIONS / f"{name}{layout.BUNDLE_SUFFIX}"
    write_atomic(path, sign_statement(signer, statement_json(subjects, predicate_type, predicate), stamper))
    return path


def approval_name(hint: str) -> str:
    """Return the name of an approval by the key with this hint."""
    return "approval-" + re.sub(r"[^a-z0-9]", "", hint.lower())[:12]


def _leading(image: Path) -> Statement:
    path = image / layout.PROVENANCE_BUNDLE
    try:
        return read_statement(read_bundle(path.read_bytes()).unverified_payload)
    except (OSError, BundleError, StatementError) as error:
        raise KilnError(
            Domain.ATTESTATION,
            "no-image",
            f"{path} can't be read: {error}",
            hint="give an image directory that `kiln build` has made",
            exit_status=ExitStatus.NOT_FOUND,
        ) from error
