"""Which signer a role has: a key in a file unless the settings name a token or a service."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kiln.attestation.keys import DEFAULT_ALGORITHM, open_signer, read_secret, read_signer
from kiln.attestation.signer import Signer
from kiln.attestation.trust import refused

FILE_SCHEME: Final = "file"
# Ed25519 is what notes and cosignatures ask for (C2SP signed-note, tlog-cosignature)
_ALGORITHM_OF_ROLE: Final[Mapping[str, str]] = dict.fromkeys(("root", "metadata", "log", "witness"), "ed25519")
APART: Final = "trust"
"""Directory of the keys that sign metadata and logs: they vouch for no image, and `kiln verify` trusts none of them."""


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Where this machine's private keys are."""

    directory: Path
    uris: tuple[tuple[str, str], ...] = ()
    """Role -> `file:`, `pkcs11:` or one of the schemes of services."""
    passphrase: str = ""
    """Reference to the secret that opens the key files; empty for files that are not encrypted."""
    environment: Mapping[str, str] | None = None

    def signer(self, role: str, *, algorithm: str = "") -> Signer:
        """Return the signer of *role*; a key file is created at first use.

        Raises KilnError(ATTESTATION, SETTINGS) as open_signer, open_token and open_service do, and `bad-signer`.
        """
        uri = dict(self.uris).get(role, "")
        scheme, _, rest = uri.partition(":")
        if not uri:
            chosen = algorithm or _ALGORITHM_OF_ROLE.get(role.partition(".")[0], DEFAULT_ALGORITHM)
            return open_signer(self.directory_of(role), role, passphrase=self._passphrase(), algorithm=chosen)
        if scheme == FILE_SCHEME and rest:
            return read_signer(Path(rest), passphrase=self._passphrase())
        if scheme == "pkcs11":
            from kiln.attestation.pkcs11 import open_token  # noqa: PLC0415

            return open_token(uri, self._secret)
        from kiln.attestation.kms import SCHEMES, open_service  # noqa: PLC0415

        if scheme in SCHEMES:
            return open_service(uri, self.directory_of(role) / f"{role}.pub")
        raise refused("bad-signer", f"{uri[:120]!r} names no signer", f"use file:, pkcs11:, {', '.join(SCHEMES)}")

    def in_file(self, role: str) -> bool:
        """Whether the key of *role* is a file that Kiln itself manages."""
        return role not in dict(self.uris)

    def directory_of(self, role: str) -> Path:
        """Return the directory of a role's key file."""
        return self.directory / APART if role.partition(".")[0] in _ALGORITHM_OF_ROLE else self.directory

    def names(self, role: str) -> tuple[str, ...]:
        """Return the names of the keys of *role* that this machine can sign with: `role`, `role.2` and so on."""
        files = (path.stem for path in self.directory_of(role).glob(f"{role}*.key"))
        found = {name for name in (*files, *(name for name, _ in self.uris)) if name.partition(".")[0] == role}
        return tuple(sorted(found, key=lambda name: (len(name), name)))

    def next_name(self, role: str) -> str:
        """Return a name for one more key of *role*."""
        taken = self.names(role)
        numbered = (f"{role}.{number}" for number in range(2, len(taken) + 3))
        return role if role not in taken else next(name for name in numbered if name not in taken)

    def retire(self, name: str) -> None:
        """Move a key file aside, so that a new key takes its name; it stays for its owner to destroy."""
        path = self.directory_of(name) / f"{name}.key"
        if self.in_file(name) and path.exists():
            key_id = hashlib.sha256(self.signer(name).public_key.der).hexdigest()[:8]
            path.rename(path.with_name(f"{path.name}.retired-{key_id}"))

    def _passphrase(self) -> bytes | None:
        return self._secret(self.passphrase) if self.passphrase else None

    def _secret(self, reference: str) -> bytes:
        return read_secret(reference, self.environment or {})
