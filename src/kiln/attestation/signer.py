"""Whoever signs: a key in a file, a token, or a service. The private key never leaves it."""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kiln_wire.dsse import STATEMENT_PAYLOAD_TYPE, bundle_json, pae
from kiln_wire.keys import load_key
from kiln_wire.spki import VerifyingKey

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class Signer(Protocol):
    """Signs with ECDSA over P-256 and SHA-256, or with Ed25519."""

    @property
    def public_key(self) -> VerifyingKey:
        """The key that verifies."""

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*: DER for ECDSA, 64 bytes for Ed25519."""


class Stamper(Protocol):
    """Whoever says when something was signed."""

    def stamp(self, data: bytes) -> bytes:
        """Return an RFC 3161 response over *data*, in DER."""


class FileSigner:
    """Signs with a private key that is held in memory."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._public = load_key(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @property
    def public_key(self) -> VerifyingKey:
        """The key that verifies."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))


def sign_statement(signer: Signer, payload: bytes, stamper: Stamper | None = None) -> bytes:
    """Return the canonical Sigstore bundle 0.3 of an in-toto statement's bytes, with a time stamp of the signature."""
    signature = signer.sign(pae(STATEMENT_PAYLOAD_TYPE, payload))
    stamps = () if stamper is None else (stamper.stamp(signature),)
    return bundle_json(signer.public_key.hint, STATEMENT_PAYLOAD_TYPE, payload, signature, stamps)
