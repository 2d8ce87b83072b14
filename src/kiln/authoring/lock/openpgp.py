"""Clear-signed text: its framing, its signatures, and what gpgv says about the same bytes.

Only the text that the verifier returns may be read afterwards, never the raw bytes: what stands before or after
the signed part is not signed, and two programs could disagree about where that part begins.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pysequoia

from kiln.linux import process

_BEGIN: Final = b"-----BEGIN PGP SIGNED MESSAGE-----"
_BEGIN_SIGNATURE: Final = b"-----BEGIN PGP SIGNATURE-----"
_END: Final = b"-----END PGP SIGNATURE-----"
_ARMOR_LINE: Final = re.compile(rb"(?m)^-----(?:BEGIN|END) PGP [A-Z ]+-----[ \t\r]*$")
GPGV_TIMEOUT_SECONDS: Final = 30.0


class UnsignedError(ValueError):
    """There is no signature at all."""


class FramingError(ValueError):
    """The file is not exactly one clear-signed message."""


class SignatureError(ValueError):
    """No signature by a key of the keyring is valid."""


@dataclass(frozen=True, slots=True)
class Keyring:
    """The certificates that may sign: those of one keyring file and no other (the meaning of `Signed-By`)."""

    name: str
    certificates: tuple[pysequoia.Cert, ...]

    def __bytes__(self) -> bytes:
        """The certificates as one binary keyring, as gpgv reads it."""
        return b"".join(bytes(certificate) for certificate in self.certificates)


@dataclass(frozen=True, slots=True)
class Signed:
    """Signed text and the primary-key fingerprints (lower-case hexadecimal, sorted) of its valid signers."""

    text: bytes
    signers: tuple[str, ...]


SecondOpinion = Callable[[bytes, Keyring], Signed]
"""Verifies the same bytes in another way. Raises SignatureError."""


def check_framing(data: bytes) -> None:
    """Refuse what is not exactly one clear-signed message from the first byte to the last.

    Raises UnsignedError and FramingError (RFC 9580, section 7, says where a message begins and ends).
    """
    if _BEGIN not in data:
        raise UnsignedError("the file has no OpenPGP signature")
    lines = [match.group().rstrip() for match in _ARMOR_LINE.finditer(data)]
    if lines != [_BEGIN, _BEGIN_SIGNATURE, _END]:
        raise FramingError("the file is not one whole clear-signed message")
    if not data.startswith(_BEGIN):
        raise FramingError("there is text before the signed message")
    if data[data.rindex(_END) + len(_END) :].strip():
        raise FramingError("there is text after the signature")


def verify_clear_signed(data: bytes, keyring: Keyring, now: datetime) -> Signed:
    """Verify *data* (whose framing has been checked) by Sequoia. Raises SignatureError.

    Sequoia accepts what a key signed before it expired; here, as for apt, a key that has expired at the time *now*
    no longer counts: whoever has stolen an old key can date a signature back.
    """
    try:
        result = pysequoia.verify(data, store=lambda _key_ids: list(keyring.certificates))
    except Exception as error:  # pysequoia raises RuntimeError and, for broken armor, others; all mean "not valid"
        # Its message ends with a stack trace of the library.
        raise SignatureError(str(error).partition("\n")[0]) from None
    if result.bytes is None or not result.valid_sigs:
        raise SignatureError("no valid signature")
    expired = {one.fingerprint.lower() for one in keyring.certificates if one.expiration and one.expiration <= now}
    signers = {signature.certificate.lower() for signature in result.valid_sigs}
    if signers <= expired:
        raise SignatureError(f"only expired keys have signed: {', '.join(sorted(signers))}")
    return Signed(result.bytes, tuple(sorted(signers - expired)))


def verify_with_gpgv(data: bytes, keyring: Keyring) -> Signed:
    """Verify *data* by gpgv, which knows only *keyring*. Raises SignatureError, KilnError(HOST) without gpgv."""
    with tempfile.TemporaryDirectory(prefix="kiln-gpgv-") as name:
        room = Path(name)
        (room / "keyring.gpg").write_bytes(bytes(keyring))
        (room / "message").write_bytes(data)
        argv = ["gpgv", "--homedir", name, "--keyring", f"{name}/keyring.gpg"]
        argv += ["--status-fd", "1", "--output", f"{name}/text", f"{name}/message"]
        # Its status is not 0 as soon as one signature is by an unknown key, which is usual: read what it says instead.
        done = process.run(argv, check=False, timeout_seconds=GPGV_TIMEOUT_SECONDS)
        signers = read_gpgv_status(done.stdout.decode("ascii", "replace"))
        text = room / "text"
        return Signed(text.read_bytes() if text.exists() else b"", signers)


def read_gpgv_status(status: str) -> tuple[str, ...]:
    """Return the primary fingerprints of the good signatures in gpgv's status lines (GnuPG doc/DETAILS).

    Raises SignatureError when a signature by a known key is bad, or none is good.
    """
    signers: set[str] = set()
    good = False
    for line in status.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "[GNUPG:]":
            continue
        if words[1] == "BADSIG":
            raise SignatureError("gpgv says that a signature is bad")
        if words[1] in ("NEWSIG", "GOODSIG", "EXPKEYSIG", "REVKEYSIG", "EXPSIG", "ERRSIG"):
            # VALIDSIG follows for expired and revoked keys too; only after GOODSIG does it count.
            good = words[1] == "GOODSIG"
        elif words[1] == "VALIDSIG" and good:
            signers.add(words[-1].lower())
    if not signers:
        raise SignatureError("gpgv finds no good signature by a key of this keyring")
    return tuple(sorted(signers))


def same_text(left: bytes, right: bytes) -> bool:
    """Whether two readings of a clear-signed text agree; line ends and the last newline are not signed."""
    return _plain(left) == _plain(right)


def _plain(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").rstrip(b"\n")
