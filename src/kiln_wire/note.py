"""Signed notes: text with signatures of named keys, and the keys themselves as one line.

Reference: C2SP signed-note. Two kinds of signatures are known: Ed25519 over the text (0x01), and a witness's
timestamped cosignature of a checkpoint (0x04, C2SP tlog-cosignature). Signatures of unknown keys are ignored; a bad
one of a known key refuses the note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kiln_wire.ed25519 import Ed25519Key
from kiln_wire.spki import KeyFormatError

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
MAX_NOTE_BYTES: Final = 64 * 1024
MAX_SIGNATURES: Final = 64
_NAME: Final = re.compile(r"[^\s+]+")
_MAX_NAME_LENGTH: Final = 255
_TIMESTAMP_BYTES: Final = 8


class NoteError(ValueError):
    """The text is not a signed note, or not by whom it should be; *reason* is a stable kebab-case word."""

    def __init__(self, reason: str, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class NoteKey:
    """Whoever signs notes: a name, a public key, and how it signs."""

    name: str
    key: Ed25519Key
    kind: int = ED25519

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or len(self.name) > _MAX_NAME_LENGTH or not self.name.isprintable():
            raise NoteError("malformed-key", f"{self.name[:80]!r} can't be the name of a key")
        if self.kind not in (ED25519, COSIGNATURE):
            raise NoteError("malformed-key", f"signatures of the type {self.kind:#04x} are not known here")

    @property
    def id(self) -> bytes:
        """Four bytes that follow from name, type and key."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key.raw).digest()[:4]

    @property
    def vkey(self) -> str:
        """The key as one line: `name+id+base64(type || key)`."""
        material = base64.b64encode(bytes([self.kind]) + self.key.raw).decode("ascii")
        return f"{self.name}+{self.id.hex()}+{material}"

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """Read one line. Raises NoteError `malformed-key`."""
        try:
            name, identity, material = text.split("+", 2)
            data = base64.b64decode(material, validate=True)
            result = cls(name, Ed25519Key(data[1:]), data[0])
        except (ValueError, IndexError, KeyFormatError) as error:
            raise NoteError("malformed-key", f"{text[:80]!r} is not a verifier key: {error}") from None
        if result.id.hex() != identity:
            raise NoteError("malformed-key", f"the id of the verifier key {name[:80]!r} is not the one that follows")
        return result


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line."""

    name: str
    id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The line, with its end."""
        return f"\N{EM DASH} {self.name} {base64.b64encode(self.id + self.signature).decode('ascii')}\n"


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that holds; *time* is in seconds since 1970, and only a witness gives one."""

    key: NoteKey
    time: int | None


@dataclass(frozen=True, slots=True)
class Note:
    """The text, which ends with a newline, and its signatures. Nothing is known of it before `signers`."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @property
    def data(self) -> bytes:
        """The note as it is stored."""
        return (self.text + "\n" + "".join(item.line for item in self.signatures)).encode("utf-8")

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Read a note. Raises NoteError `malformed-note`."""
        if len(data) > MAX_NOTE_BYTES:
            raise NoteError("malformed-note", f"a note of {len(data)} bytes is too long")
        try:
            whole = data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NoteError("malformed-note", f"not UTF-8: {error}") from None
        if any(character < " " and character != "\n" for character in whole):
            raise NoteError("malformed-note", "a control character")
        text, blank, lines = whole.rpartition("\n\n")
        if not blank or not lines.endswith("\n"):
            raise NoteError("malformed-note", "no blank line before the signatures, or the last line does not end")
        return cls(text + "\n", read_signatures(lines))

    def signers(self, keys: Iterable[NoteKey]) -> tuple[Signed, ...]:
        """Return the signatures of *keys*, all of which hold. Raises NoteError `bad-signature`."""
        known = {(key.name, key.id): key for key in keys}
        result = []
        for item in self.signatures:
            key = known.pop((item.name, item.id), None)
            if key is None:
                continue
            time, message, signature = None, self.text.encode("utf-8"), item.signature
            if key.kind == COSIGNATURE:
                time, signature = int.from_bytes(signature[:_TIMESTAMP_BYTES], "big"), signature[_TIMESTAMP_BYTES:]
                message = cosigned(self.text, time)
            if not key.key.verify(signature, message):
                raise NoteError("bad-signature", f"{key.name} has not signed this text")
            result.append(Signed(key, time))
        return tuple(result)


def read_signatures(lines: str) -> tuple[NoteSignature, ...]:
    """Read one or more signature lines. Raises NoteError `malformed-note`."""
    result = []
    for line in lines.removesuffix("\n").split("\n"):
        dash, name, encoded = (*line.split(" "), "", "", "")[:3]
        if dash != "\N{EM DASH}" or line.count(" ") != 2 or not _NAME.fullmatch(name):
            raise NoteError("malformed-note", f"{line[:80]!r} is not a signature line")
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise NoteError("malformed-note", f"a signature is not base64: {error}") from None
        if len(data) <= 4 or base64.b64encode(data).decode("ascii") != encoded:
            raise NoteError("malformed-note", "a signature is too short, or not spelled canonically")
        result.append(NoteSignature(name, data[:4], data[4:]))
    if len(result) > MAX_SIGNATURES:
        raise NoteError("malformed-note", f"{len(result)} signatures are too many")
    return tuple(result)


def cosigned(text: str, time: int) -> bytes:
    """Return what a witness signs at *time* (seconds since 1970)."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def cosignature(key: NoteKey, time: int, signature: bytes) -> NoteSignature:
    """Return the line of a witness's signature over `cosigned(text, time)`."""
    return NoteSignature(key.name, key.id, time.to_bytes(_TIMESTAMP_BYTES, "big") + signature)
