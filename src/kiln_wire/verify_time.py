"""Steps 12 and 13 of a verification: the record is in the log, and every key was good when it signed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kiln_wire import layout
from kiln_wire.canonical import CanonicalError, canonical_json
from kiln_wire.checkpoint import InclusionProof
from kiln_wire.digest import Digest
from kiln_wire.dsse import Bundle
from kiln_wire.log_entry import log_entry
from kiln_wire.note import NoteError, Signed
from kiln_wire.trust import Trust, allows
from kiln_wire.tuf import time_text
from kiln_wire.verify_state import Evidence

_CLOCK_SKEW_SECONDS: Final = 300  # what machines without a good clock are apart


def check_transparency(evidence: Evidence, trust: Trust) -> bool:
    """Step 12: where there is a proof, it leads from the record to a checkpoint of a trusted log.

    An image without a proof passes; a policy can ask for one.
    """
    data = evidence.documents.get(layout.LOG_PROOF)
    record = evidence.predicate(layout.RECORD_BUNDLE)
    if data is None:
        return True
    if record is None:
        return False
    logs = () if trust.root is None else trust.root.logs
    try:
        proof = InclusionProof.parse(data)
        origin = proof.checkpoint.partition(b"\n")[0].decode("utf-8", "replace")
        log = next((key for key in logs if key.name == origin), None)
        if log is None:
            if trust.root is not None:
                evidence.error(layout.LOG_PROOF, "unknown-log", ", ".join(key.name for key in logs), origin[:80])
            else:
                evidence.add(layout.LOG_PROOF, "unchecked-proof", "a trust root that names the log", "none", "note")
            return True
        witnesses = () if trust.root is None else trust.root.witnesses
        _, cosigners = proof.verify(log_entry(Digest.of(canonical_json(record))), log, witnesses)
    except NoteError as error:
        evidence.error(layout.LOG_PROOF, error.reason, "a proof that the log holds the record", str(error))
        return True
    except CanonicalError as error:
        evidence.error(layout.RECORD_BUNDLE, "malformed-document", "canonical JSON", str(error))
        return True
    _take_time(evidence, trust, cosigners)
    evidence.witnessed = {layout.RECORD_BUNDLE, *_listed(evidence, record)}
    return True


def _take_time(evidence: Evidence, trust: Trust, cosigners: tuple[Signed, ...]) -> None:
    quorum = 0 if trust.root is None else trust.root.witness_quorum
    times = sorted(item.time for item in cosigners if item.time is not None)
    evidence.witnesses = len(times)
    if len(times) < quorum:
        evidence.error(layout.LOG_PROOF, "too-few-witnesses", f"{quorum} witnesses", str(len(times)))
    elif quorum and times[quorum - 1] <= trust.now + _CLOCK_SKEW_SECONDS:
        evidence.witnessed_at = times[quorum - 1]


def _listed(evidence: Evidence, record: Mapping[str, Any]) -> set[str]:
    try:
        pointers = {item["path"]: item["digest"] for item in record["run"]["files"]}
    except (KeyError, TypeError):
        return set()
    return {
        name
        for name in evidence.statements
        if name in evidence.digests and pointers.get(name) == str(evidence.digests[name])
    }


def check_validity(evidence: Evidence, trust: Trust, bundles: Mapping[str, Bundle]) -> bool:
    """Step 13: each key had the role for what it signed, and was neither expired nor revoked then."""
    for name, statement in evidence.statements.items():
        role_key = trust.role_key(evidence.signer_of[name])
        if role_key is None or trust.root is None:
            continue
        if not allows(role_key.role, statement.predicate_type):
            evidence.error(name, "wrong-role", f"a key that may sign {statement.predicate_type}", role_key.role)
        bundle = bundles.get(name)  # cosign's older signatures are in none
        signed_at = None if bundle is None else trust.stamp_time(bundle, trust.root.timestamp_authorities)
        if evidence.witnessed_at is not None and name in evidence.witnessed:
            signed_at = min(evidence.witnessed_at, signed_at or evidence.witnessed_at)
        reason = role_key.objection(signed_at, trust.now)
        if reason:
            when = "at an unknown time" if signed_at is None else f"at {time_text(signed_at)}"
            limits = f"from {time_text(role_key.valid_from)} until {time_text(role_key.valid_until)}"
            if role_key.revoked_at is not None:
                limits += f", revoked at {time_text(role_key.revoked_at)}"
            expected = f"a key that was good then; this one is {limits}"
            if reason == "revoked-key":
                evidence.error(name, "revoked-key", expected, f"signed {when}")
            else:
                evidence.error(name, "expired-key", expected, f"signed {when}")
    return bool(evidence.statements)
