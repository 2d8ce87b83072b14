"""Private keys in files: one for each role, created at first use, refused when anybody else could read or swap them.

A role's key is `<directory>/<role>.key` (PKCS#8 in PEM, mode 0600, in a directory of mode 0700); its public half lies
beside it as `<role>.pub`. With a passphrase the file is encrypted.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from kiln.attestation.signer import FileSigner, PrivateKey
from kiln.attestation.trust import MAX_KEY_BYTES, check_directory, refused
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux.files import write_atomic, write_if_changed
from kiln.linux.locks import exclusive

DEFAULT_ROLE: Final = "image-vault"
DEFAULT_ALGORITHM: Final = "ecdsa-p256"
ALGORITHMS: Final = (DEFAULT_ALGORITHM, "ed25519")
_ROLE: Final = re.compile(r"[a-z][a-z0-9-]{0,62}(\.[0-9]{1,4})?")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_RESTORE: Final = "restore the file from a backup, or move it away so that a new key is made"


def open_signer(
    directory: Path,
    role: str = DEFAULT_ROLE,
    *,
    passphrase: bytes | None = None,
    algorithm: str = DEFAULT_ALGORITHM,
) -> FileSigner:
    """Return the signer of *role*, creating its key at first use; two processes at once get the same key.

    *algorithm*, one of ALGORITHMS, is that of a new key. A role `image-vault.3` has the third key of that name.

    Raises KilnError(ATTESTATION): `unsafe-key-file` if the file or its directory belongs to somebody else or is open
    to them, `bad-key-file`, `passphrase-needed`, `wrong-passphrase`, `key-not-encrypted` (a passphrase was given for
    a file that needs none), `bad-role`.
    """
    if _ROLE.fullmatch(role) is None:
        raise refused("bad-role", f"{role[:80]!r} can't be the name of a role", "use small letters, digits and `-`")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_directory(directory)
    path = directory / f"{role}.key"
    with exclusive(directory / ".lock"):
        if not os.path.lexists(path):
            write_atomic(path, _new_key(passphrase, algorithm), mode=0o600)
        signer = FileSigner(_parse(path, _read_private(path), passphrase))
        write_if_changed(directory / f"{role}.pub", signer.public_key.pem)
    return signer


def read_signer(path: Path, *, passphrase: bytes | None = None) -> FileSigner:
    """Return the signer of the key file *path*, wherever it lies. Raises as open_signer does."""
    return FileSigner(_parse(path, _read_private(path), passphrase))


def read_secret(reference: str, environment: Mapping[str, str]) -> bytes:
    """Return the secret that a setting names: `env:NAME` or `file:/path` (under the rules of a key file).

    Raises KilnError(SETTINGS, "bad-secret-reference" or "no-secret"), KilnError(ATTESTATION, "unsafe-key-file").
    """
    scheme, _, rest = reference.partition(":")
    if scheme == "env" and rest:
        if rest not in environment:
            raise KilnError(
                Domain.SETTINGS,
                "no-secret",
                f"the environment has no variable {rest}",
                hint=f"set {rest}, or change the setting that names it",
                exit_status=ExitStatus.USAGE,
            )
        return environment[rest].encode("utf-8")
    if scheme == "file" and rest:
        return _read_private(Path(rest)).removesuffix(b"\n")
    raise KilnError(
        Domain.SETTINGS,
        "bad-secret-reference",
        "a secret is named as env:NAME or file:/path",
        hint="the secret itself must not stand in the settings",
        exit_status=ExitStatus.USAGE,
    )


def _new_key(passphrase: bytes | None, algorithm: str) -> bytes:
    encryption: KeySerializationEncryption = (
        NoEncryption() if passphrase is None else BestAvailableEncryption(passphrase)
    )
    if algorithm not in ALGORITHMS:
        raise refused("bad-algorithm", f"{algorithm[:40]!r} is not an algorithm", f"choose {' or '.join(ALGORITHMS)}")
    key: PrivateKey = (
        ed25519.Ed25519PrivateKey.generate() if algorithm == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def _parse(path: Path, data: bytes, passphrase: bytes | None) -> PrivateKey:
    encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in data
    if encrypted and passphrase is None:
        raise refused("passphrase-needed", f"{path} is encrypted", "name its passphrase in the settings")
    if not encrypted and passphrase is not None:
        raise refused(
            "key-not-encrypted",
            f"a passphrase is set, but {path} is not encrypted",
            "encrypt it (`openssl pkcs8 -topk8`), or drop the passphrase from the settings",
        )
    try:
        key = load_pem_private_key(data, passphrase)
    except (ValueError, TypeError) as error:
        if encrypted:
            raise refused("wrong-passphrase", f"the passphrase does not open {path}", "check the setting") from error
        raise refused("bad-key-file", f"{path} is not a private key in PEM: {error}", _RESTORE) from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise refused("bad-key-file", f"{path} is neither a P-256 nor an Ed25519 key", _RESTORE)
    return key


def _read_private(path: Path) -> bytes:
    """Return the bytes of a file that nobody but its owner, who must be us, can read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise refused(
            "unsafe-key-file", f"{path} can't be opened: {error.strerror}", "it must be a plain file"
        ) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS:
            raise refused(
                "unsafe-key-file",
                f"{path} is not a plain file that only its owner can read",
                f"chmod 600 {path}; if others could read it until now, make a new key",
            )
        return os.read(descriptor, MAX_KEY_BYTES)
    finally:
        os.close(descriptor)
