"""Signing with keys that a cloud service holds, through securesystemslib, whose URI schemes are taken as they are.

The service's own client library must be installed beside Kiln; securesystemslib says which. The public key is not
asked of the service at each signature: it is a file, and every signature is checked against it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from kiln.attestation.trust import read_public_key, refused
from kiln_wire.spki import VerifyingKey
from kiln_wire.tuf import key_entry, key_id_of

SCHEMES: Final = ("awskms", "gcpkms", "azurekms", "hv", "file2")
"""Those that securesystemslib resolves: three clouds, HashiCorp Vault, and its own key files."""


class ServiceSigner:
    """Signs through a securesystemslib signer."""

    def __init__(self, uri: str, public: VerifyingKey) -> None:
        self._uri = uri
        self._public = public
        self._signer: Any = None

    @property
    def public_key(self) -> VerifyingKey:
        """The key that verifies."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """Return the signature of *message*.

        Raises KilnError(ATTESTATION): `service-failed` (a library is missing, or the service refuses or answers
        wrongly), `wrong-signer` (the signature is not one of the public key).
        """
        try:
            signature = bytes.fromhex(self._open().sign(message).signature)
        except Exception as error:  # securesystemslib documents that its signers raise whatever their clients raise
            raise refused(
                "service-failed",
                f"{self._uri[:120]} could not sign: {type(error).__name__}: {error}",
                "is the service's client library installed, and may this machine use the key?",
            ) from error
        if not self._public.verify(signature, message):
            raise refused(
                "wrong-signer",
                f"what {self._uri[:120]} signs is not by the public key that was given for it",
                "export the public key of the service again",
            )
        return signature

    def _open(self) -> Any:
        if self._signer is None:
            from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, Key  # noqa: PLC0415

            entry = key_entry(self._public)
            key = Key.from_dict(key_id_of(entry), dict(entry))
            scheme = self._uri.partition(":")[0]
            kind: Any = SIGNER_FOR_URI_SCHEME[scheme]
            self._signer = kind.from_priv_key_uri(self._uri, key, None)
        return self._signer


def open_service(uri: str, public_key: Path) -> ServiceSigner:
    """Return the signer of the key *uri*, whose public half is in a file. Raises KilnError(ATTESTATION)."""
    return ServiceSigner(uri, read_public_key(public_key))
