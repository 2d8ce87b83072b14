"""Whose signatures are trusted: public keys in files. Needs nothing but the standard library."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from kiln.errors import Domain, ExitStatus, KilnError
from kiln_wire.keys import load_key
from kiln_wire.spki import KeyFormatError, VerifyingKey

MAX_KEY_BYTES: Final = 16 * 1024
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def trusted_keys(directory: Path) -> tuple[VerifyingKey, ...]:
    """Return the public keys (`*.pub`) of a key directory, sorted by the names of the files; none if there is none.

    Raises KilnError(ATTESTATION, "unsafe-key-file" or "bad-public-key").
    """
    if not directory.is_dir():
        return ()
    check_directory(directory)
    return tuple(read_public_key(path) for path in sorted(directory.glob("*.pub")))


def read_public_key(path: Path) -> VerifyingKey:
    """Return the public key in a PEM or DER file.

    Raises KilnError(ATTESTATION, "bad-public-key").
    """
    try:
        with path.open("rb") as file:
            return load_key(file.read(MAX_KEY_BYTES))
    except (OSError, KeyFormatError) as error:
        raise refused(
            "bad-public-key",
            f"{path} is not a P-256 or Ed25519 public key: {error}",
            "give the .pub file of whoever signed the image",
        ) from error


def check_directory(directory: Path) -> None:
    """Refuse a directory of keys that somebody else could change. Raises KilnError(ATTESTATION, "unsafe-key-file")."""
    status = directory.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & _OTHERS_WRITE:
        raise refused(
            "unsafe-key-file",
            f"{directory} belongs to somebody else, or others can write there",
            f"chmod 700 {directory}, and look whether the keys in it are still yours",
        )


def refused(reason: str, message: str, hint: str) -> KilnError:
    """Return the refusal of a key."""
    return KilnError(Domain.ATTESTATION, reason, message, hint=hint, exit_status=ExitStatus.REFUSED)
