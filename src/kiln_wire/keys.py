"""Public keys of every algorithm that Kiln accepts: ECDSA over P-256, and Ed25519."""

from __future__ import annotations

from kiln_wire.ed25519 import SPKI_PREFIX, Ed25519Key
from kiln_wire.p256 import PublicKey
from kiln_wire.spki import VerifyingKey, der_of


def load_key(data: bytes) -> VerifyingKey:
    """Read a SubjectPublicKeyInfo in PEM or DER. Raises KeyFormatError."""
    der = der_of(data)
    return Ed25519Key.load(der) if der.startswith(SPKI_PREFIX) else PublicKey.from_der(der)
