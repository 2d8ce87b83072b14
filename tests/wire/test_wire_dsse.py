"""Bundles: only the one spelling, exactly one signature, the right key, and the payload only after that."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest
from kiln_wire.dsse import BUNDLE_MEDIA_TYPE, BundleError, bundle_json, pae, read_bundle, verify
from kiln_wire.p256 import PublicKey
from kiln_wire.statement import StatementError, Subject, read_statement, statement_json

KEY = ec.derive_private_key(7, ec.SECP256R1())
PUBLIC = PublicKey.load(KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
OTHER = PublicKey.load(
    ec.derive_private_key(8, ec.SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)
TYPE = "application/vnd.in-toto+json"
PAYLOAD = statement_json([Subject("a.qcow2", Digest.of(b"a"))], "urn:x", {"b": 1})


def _bundle(payload: bytes = PAYLOAD, kind: str = TYPE) -> bytes:
    return bundle_json(PUBLIC.hint, kind, payload, KEY.sign(pae(kind, payload), ec.ECDSA(hashes.SHA256())))


GOOD = _bundle()


def test_pae_is_that_of_the_specification() -> None:
    # the example in DSSE's protocol.md
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_a_bundle_gives_its_payload_to_the_right_key_only() -> None:
    assert verify(read_bundle(GOOD), PUBLIC) == PAYLOAD
    with pytest.raises(BundleError) as caught:
        verify(read_bundle(GOOD), OTHER)
    assert caught.value.reason == "wrong-key"


def test_no_keyid_and_an_empty_log_as_cosign_and_sigstore_want_it() -> None:
    document = json.loads(GOOD)
    assert document["mediaType"] == BUNDLE_MEDIA_TYPE
    assert document["dsseEnvelope"]["signatures"][0].keys() == {"sig"}
    assert document["verificationMaterial"]["tlogEntries"] == []


def _reason(data: bytes) -> str:
    with pytest.raises(BundleError) as caught:
        verify(read_bundle(data), PUBLIC)
    return caught.value.reason


def _edit(change: Callable[[Any], object]) -> bytes:
    document = json.loads(GOOD)
    change(document)
    return canonical_json(document)


def _envelope(**values: object) -> bytes:
    return _edit(lambda document: document["dsseEnvelope"].update(values))


MALFORMED = {
    "empty": b"",
    "not an object": b"[]",
    "truncated": GOOD[:-20],
    "duplicate key": GOOD.replace(b'{"dsseEnvelope"', b'{"mediaType":"x","dsseEnvelope"'),
    "other version": GOOD.replace(b"v0.3", b"v0.2"),
    "no signature": _envelope(signatures=[]),
    "signatures no list": _envelope(signatures={}),
    "two signatures": _edit(lambda document: document["dsseEnvelope"]["signatures"].append({"sig": "AAAA"})),
    "keyid": _edit(lambda document: document["dsseEnvelope"]["signatures"][0].update(keyid="x")),
    "unknown key": _edit(lambda document: document.update(extra=1)),
    "log entry": _edit(lambda document: document["verificationMaterial"]["tlogEntries"].append({})),
    "certificate": _edit(lambda document: document["verificationMaterial"].update(certificate={})),
    "payload no string": _envelope(payload=1),
    "payload no base64": _envelope(payload="!!!!"),
    "payload base64url": _envelope(payload=base64.urlsafe_b64encode(b"\xff\xff\xfe").decode()),
    "empty payload": _envelope(payload=""),
    "payload with a line break": _envelope(payload=base64.encodebytes(PAYLOAD).decode()),
    "short hint": _edit(lambda document: document["verificationMaterial"]["publicKey"].update(hint="AA==")),
    "type with a lone surrogate": GOOD.replace(TYPE.encode(), b"\\ud800"),
    "deep": b"[" * 1000,
    "not UTF-8": b"\xff" + GOOD,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_refuses_a_malformed_bundle(name: str) -> None:
    reason = _reason(MALFORMED[name])
    assert reason in ("malformed-bundle", "wrong-key") if name == "short hint" else reason == "malformed-bundle"


def test_refuses_another_spelling_of_the_same_bundle() -> None:
    assert _reason(json.dumps(json.loads(GOOD)).encode()) == "not-canonical"
    # the last character of unpadded base64 has bits that decode to nothing
    text = base64.b64encode(b"x").decode()
    assert text == "eA=="
    assert _reason(_envelope(payload="eB==")) == "not-canonical"


def test_refuses_another_payload_type() -> None:
    assert _reason(_bundle(kind="text/plain")) == "wrong-payload-type"


def test_refuses_a_changed_payload_under_the_old_signature() -> None:
    changed = base64.b64encode(PAYLOAD.replace(b'"b":1', b'"b":2')).decode()
    assert _reason(_envelope(payload=changed)) == "bad-signature"


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused_by_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(BundleError):
        read_bundle(data)


@given(st.integers(0, len(GOOD) * 8 - 1))
def test_every_flipped_bit_of_a_bundle_is_refused(bit: int) -> None:
    changed = bytearray(GOOD)
    changed[bit // 8] ^= 1 << (bit % 8)
    _reason(bytes(changed))


def _statement(**values: object) -> bytes:
    document = {**json.loads(PAYLOAD), **values}
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


HEX = "0" * 64
BAD_STATEMENTS = {
    "other type": _statement(_type="https://in-toto.io/Statement/v0.1"),
    "unknown key": _statement(extra=1),
    "no predicate": _statement(predicate=None),
    "predicate no object": _statement(predicate=[]),
    "empty predicate type": _statement(predicateType=""),
    "no subject": _statement(subject=[]),
    "subjects no list": _statement(subject={}),
    "subject without digest": _statement(subject=[{"name": "a"}]),
    "subject with path": _statement(subject=[{"name": "../a", "digest": {"sha256": HEX}}]),
    "subject that is a directory": _statement(subject=[{"name": "..", "digest": {"sha256": HEX}}]),
    "subject with a control character": _statement(subject=[{"name": "a\nb", "digest": {"sha256": HEX}}]),
    "subject with a text direction": _statement(subject=[{"name": "a\u202eb", "digest": {"sha256": HEX}}]),
    "same name twice": _statement(subject=[{"name": "a", "digest": {"sha256": HEX}}] * 2),
    "weak digest": _statement(subject=[{"name": "a", "digest": {"sha1": "0" * 40}}]),
    "upper-case digest": _statement(subject=[{"name": "a", "digest": {"sha256": "A" * 64}}]),
    "short digest": _statement(subject=[{"name": "a", "digest": {"sha256": "00"}}]),
    "duplicate key": PAYLOAD[:-1] + b',"predicate":{}}',
    "not JSON": b"hello",
}


@pytest.mark.parametrize("name", BAD_STATEMENTS)
def test_refuses_a_malformed_statement(name: str) -> None:
    with pytest.raises(StatementError):
        read_statement(BAD_STATEMENTS[name])


def test_a_statement_is_read_back_with_its_subjects_sorted() -> None:
    subjects = [Subject("b", Digest.of(b"b")), Subject("a", Digest.of(b"a"))]
    statement = read_statement(statement_json(subjects, "urn:x", {}))
    assert [subject.name for subject in statement.subjects] == ["a", "b"]
    assert (statement.predicate_type, statement.predicate) == ("urn:x", {})
