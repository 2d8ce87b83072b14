"""Whoever signs: a file key now; a token or a service can take its place."""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kiln_wire.dsse import STATEMENT_PAYLOAD_TYPE, bundle_json, pae
from kiln_wire.p256 import PublicKey


class Signer(Protocol):
    """Signs with ECDSA P-256 and SHA-256. The key itself never leaves it."""

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies."""

    def sign(self, message: bytes) -> bytes:
        """Return the DER signature of *message*."""


class FileSigner:
    """Signs with a private key that is held in memory."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._public = PublicKey.load(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    @property
    def public_key(self) -> PublicKey:
        """The key that verifies."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the DER signature of *message*."""
        return self._key.sign(message, ec.ECDSA(hashes.SHA256()))


def sign_statement(signer: Signer, payload: bytes) -> bytes:
    """Return the canonical Sigstore bundle 0.3 of an in-toto statement's bytes."""
    signature = signer.sign(pae(STATEMENT_PAYLOAD_TYPE, payload))
    return bundle_json(signer.public_key.hint, STATEMENT_PAYLOAD_TYPE, payload, signature)
