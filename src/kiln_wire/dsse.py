"""DSSE envelopes in Sigstore bundles of version 0.3 that name a public key.

A bundle is read strictly: the keys that Kiln writes and no others, exactly one signature, no `keyid` (cosign
refuses bundles with one), base64 in its only canonical spelling. The payload's bytes are handed out only by
`verify`, and nothing here parses them: what was signed is what is read.

References: DSSE v1 (protocol.md: PAE), sigstore/protobuf-specs `sigstore_bundle.proto` (0.3), in-toto Attestation
Framework (envelope.md: the payload's type).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads
from kiln_wire.spki import VerifyingKey

BUNDLE_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
MAX_BUNDLE_BYTES: Final = 64 * 1024 * 1024
_MAX_DEPTH: Final = 8
_HINT_BYTES: Final = 32
_MAX_SIGNATURE_BYTES: Final = 72
_MAX_TIMESTAMPS: Final = 8
_MAX_TIMESTAMP_BYTES: Final = 64 * 1024


class BundleError(ValueError):
    """A bundle that can't be taken; *reason* is a stable kebab-case word."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Bundle:
    """One signed payload and the hint that names the key. The payload is not to be trusted before `verify`."""

    hint: str
    payload_type: str
    signature: bytes
    unverified_payload: bytes
    timestamps: tuple[bytes, ...] = ()
    """RFC 3161 responses over the signature, in DER; nothing here reads them."""


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def bundle_json(
    hint: str, payload_type: str, payload: bytes, signature: bytes, timestamps: Sequence[bytes] = ()
) -> bytes:
    """Return the canonical bytes of a bundle."""
    # sigstore's models demand tlogEntries, also where there is no log
    material: dict[str, object] = {"publicKey": {"hint": hint}, "tlogEntries": []}
    if timestamps:
        stamps = [{"signedTimestamp": base64.b64encode(item).decode("ascii")} for item in timestamps]
        material["timestampVerificationData"] = {"rfc3161Timestamps": stamps}
    return canonical_json(
        {
            "mediaType": BUNDLE_MEDIA_TYPE,
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode("ascii"),
                "payloadType": payload_type,
                "signatures": [{"sig": base64.b64encode(signature).decode("ascii")}],
            },
        }
    )


def read_bundle(data: bytes) -> Bundle:
    """Read a bundle's bytes. Raises BundleError with the reason `malformed-bundle` or `not-canonical`."""
    try:
        document = strict_loads(data, max_bytes=MAX_BUNDLE_BYTES, max_depth=_MAX_DEPTH)
    except CanonicalError as error:
        raise BundleError("malformed-bundle", str(error)) from None
    material, envelope = _object(document, "", "mediaType", "verificationMaterial", "dsseEnvelope")[1:]
    if document["mediaType"] != BUNDLE_MEDIA_TYPE:
        raise BundleError("malformed-bundle", f"mediaType is not {BUNDLE_MEDIA_TYPE}")
    timestamps: tuple[bytes, ...] = ()
    if isinstance(material, dict) and "timestampVerificationData" in material:
        material = dict(material)
        timestamps = _timestamps(material.pop("timestampVerificationData"))
    key, log = _object(material, "verificationMaterial", "publicKey", "tlogEntries")
    if log != []:
        raise BundleError("malformed-bundle", "tlogEntries is not empty")
    (hint,) = _object(key, "publicKey", "hint")
    payload, payload_type, signatures = _object(envelope, "dsseEnvelope", "payload", "payloadType", "signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        raise BundleError("malformed-bundle", "there must be exactly one signature")
    (signature,) = _object(signatures[0], "signatures[0]", "sig")
    if not isinstance(payload_type, str) or not payload_type.isascii():
        raise BundleError("malformed-bundle", "payloadType is not an ASCII string")
    bundle = Bundle(
        hint=base64.b64encode(_base64(hint, "hint", _HINT_BYTES)).decode("ascii"),
        payload_type=payload_type,
        signature=_base64(signature, "sig", _MAX_SIGNATURE_BYTES),
        unverified_payload=_base64(payload, "payload", MAX_BUNDLE_BYTES),
        timestamps=timestamps,
    )
    spelled = bundle_json(bundle.hint, bundle.payload_type, bundle.unverified_payload, bundle.signature, timestamps)
    if spelled != data:
        raise BundleError("not-canonical", "the bundle is not spelled canonically")
    return bundle


def read_foreign_bundle(data: bytes) -> Bundle:
    """Read a bundle as other tools write it: with whatever else they say, which nobody believes here.

    Exactly one signature, and a hint that names a key. Raises BundleError `malformed-bundle`.
    """
    try:
        document = strict_loads(data, max_bytes=MAX_BUNDLE_BYTES)
        envelope, hint = document["dsseEnvelope"], document["verificationMaterial"]["publicKey"]["hint"]
        (signature,) = envelope["signatures"]
        return Bundle(
            hint=base64.b64encode(_base64(hint, "hint", _HINT_BYTES)).decode("ascii"),
            payload_type=str(envelope["payloadType"]),
            signature=_base64(signature["sig"], "sig", _MAX_SIGNATURE_BYTES),
            unverified_payload=_base64(envelope["payload"], "payload", MAX_BUNDLE_BYTES),
        )
    except (CanonicalError, KeyError, TypeError, ValueError) as error:
        raise BundleError("malformed-bundle", f"not a bundle with a public key: {str(error)[:200]}") from None


def verify(bundle: Bundle, key: VerifyingKey, *, payload_type: str = STATEMENT_PAYLOAD_TYPE) -> bytes:
    """Return the payload that *key* has signed as *payload_type*.

    Raises BundleError with the reason `wrong-payload-type`, `wrong-key` (the hint names another one) or
    `bad-signature`.
    """
    if bundle.payload_type != payload_type:
        raise BundleError("wrong-payload-type", f"payloadType is {bundle.payload_type[:80]!r}, not {payload_type!r}")
    if bundle.hint != key.hint:
        raise BundleError("wrong-key", f"the bundle names the key {bundle.hint}, not {key.hint}")
    if not key.verify(bundle.signature, pae(payload_type, bundle.unverified_payload)):
        raise BundleError("bad-signature", f"the key {key.hint} has not signed this payload")
    return bundle.unverified_payload


def _timestamps(value: object) -> tuple[bytes, ...]:
    (stamps,) = _object(value, "timestampVerificationData", "rfc3161Timestamps")
    if not isinstance(stamps, list) or not 1 <= len(stamps) <= _MAX_TIMESTAMPS:
        raise BundleError("malformed-bundle", f"there must be 1 to {_MAX_TIMESTAMPS} time stamps")
    return tuple(
        _base64(_object(item, "rfc3161Timestamps", "signedTimestamp")[0], "signedTimestamp", _MAX_TIMESTAMP_BYTES)
        for item in stamps
    )


def _object(value: object, where: str, *keys: str) -> list[Any]:
    """Return the values of *keys*, which must be all that the object has."""
    if not isinstance(value, dict) or set(value) != set(keys):
        raise BundleError(
            "malformed-bundle", f"{where or 'the bundle'} must have the keys {', '.join(keys)}, no others"
        )
    return [value[key] for key in keys]


def _base64(value: object, where: str, max_bytes: int) -> bytes:
    if not isinstance(value, str):
        raise BundleError("malformed-bundle", f"{where} is not a string")
    try:
        data = base64.b64decode(value.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise BundleError("malformed-bundle", f"{where} is not base64: {error}") from None
    if not 0 < len(data) <= max_bytes:
        raise BundleError("malformed-bundle", f"{where} has {len(data)} bytes")
    return data
