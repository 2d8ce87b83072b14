"""What public keys of all algorithms have in common: SubjectPublicKeyInfo in PEM and DER, and a name that follows.

References: RFC 5280 (section 4.1), RFC 7468 (section 13), sigstore_bundle.proto (the hint).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final, Protocol

_PEM: Final = re.compile(rb"\s*-----BEGIN PUBLIC KEY-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END PUBLIC KEY-----\s*")
_MAX_KEY_BYTES: Final = 4096  # a P-256 key in PEM has 178 bytes


class KeyFormatError(ValueError):
    """The bytes are not a public key in the one accepted spelling."""


class VerifyingKey(Protocol):
    """A public key of any algorithm that is accepted here."""

    @property
    def algorithm(self) -> str:
        """`ecdsa-p256` or `ed25519`."""

    @property
    def der(self) -> bytes:
        """The SubjectPublicKeyInfo in DER."""

    @property
    def pem(self) -> bytes:
        """The SubjectPublicKeyInfo in PEM, as OpenSSL writes it."""

    @property
    def hint(self) -> str:
        """How a Sigstore bundle names the key: base64 of the SHA-256 of the SubjectPublicKeyInfo."""

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether *signature* is one of this key over *message*; a malformed one is not."""


def der_of(data: bytes) -> bytes:
    """Return the DER of a key in PEM or DER. Raises KeyFormatError."""
    if len(data) > _MAX_KEY_BYTES:
        raise KeyFormatError(f"a public key of {len(data)} bytes is too long")
    if b"-----BEGIN" not in data:
        return data
    match = _PEM.fullmatch(data)
    if match is None:
        raise KeyFormatError("not one PEM block of the type PUBLIC KEY")
    try:
        return base64.b64decode(b"".join(match[1].split()), validate=True)
    except binascii.Error as error:
        raise KeyFormatError(f"the PEM block is not base64: {error}") from None


def pem_of(der: bytes) -> bytes:
    """Return *der* in PEM, in lines of 64 characters."""
    text = base64.b64encode(der)
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"-----BEGIN PUBLIC KEY-----\n" + b"\n".join(lines) + b"\n-----END PUBLIC KEY-----\n"


def hint_of(der: bytes) -> str:
    """Return the name of a key: base64 of the SHA-256 of its DER."""
    return base64.b64encode(hashlib.sha256(der).digest()).decode("ascii")
