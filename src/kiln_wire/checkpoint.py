"""Checkpoints of a log, and proofs that an entry is in it, which can be checked without the log.

References: C2SP tlog-checkpoint, tlog-proof.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from kiln_wire.merkle import HASH_BYTES, MAX_PROOF_HASHES, leaf_hash, verify_inclusion
from kiln_wire.note import MAX_NOTE_BYTES, Note, NoteError, NoteKey, Signed

PROOF_HEADER: Final = "c2sp.org/tlog-proof@v1"
_MAX_SIZE: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log: how many entries it has, and the hash of the tree over them."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text of the note."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode('ascii')}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read a note's text; extension lines are not known here. Raises NoteError `malformed-checkpoint`."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise NoteError("malformed-checkpoint", "a checkpoint must have three lines: origin, size, hash")
        return cls(lines[0], decimal(lines[1]), one_hash(lines[2]))


def open_checkpoint(
    data: bytes, log: NoteKey, witnesses: Iterable[NoteKey] = ()
) -> tuple[Checkpoint, tuple[Signed, ...]]:
    """Return the checkpoint that *log* has signed, and the signatures of *witnesses* on it.

    Raises NoteError: `malformed-note`, `malformed-checkpoint`, `bad-signature`, `unknown-log` (no signature of *log*,
    or another origin).
    """
    note = Note.parse(data)
    signers = note.signers((log, *witnesses))
    if log not in (item.key for item in signers):
        raise NoteError("unknown-log", f"{log.name} has not signed this checkpoint")
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != log.name:
        raise NoteError("unknown-log", f"the checkpoint is of {checkpoint.origin[:80]!r}, not of {log.name!r}")
    return checkpoint, tuple(item for item in signers if item.key != log)


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """That an entry is in a log, as of one checkpoint."""

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    """The signed note."""

    @property
    def data(self) -> bytes:
        """The proof as it is stored."""
        lines = [PROOF_HEADER, f"index {self.index}", *(base64.b64encode(item).decode("ascii") for item in self.path)]
        return ("\n".join(lines) + "\n\n").encode("ascii") + self.checkpoint

    @classmethod
    def parse(cls, data: bytes) -> InclusionProof:
        """Read a proof without extra data. Raises NoteError `malformed-proof`."""
        head, blank, checkpoint = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise NoteError("malformed-proof", "the proof is not ASCII") from None
        if len(data) > 2 * MAX_NOTE_BYTES or not blank or len(lines) < 2 or lines[0] != PROOF_HEADER:
            raise NoteError("malformed-proof", f"not a proof that begins with {PROOF_HEADER}")
        word, _, index = lines[1].partition(" ")
        if word != "index" or len(lines) > MAX_PROOF_HASHES + 2:
            raise NoteError("malformed-proof", "the second line must be an index, and there can be at most 63 hashes")
        return cls(decimal(index), tuple(one_hash(line) for line in lines[2:]), checkpoint)

    def verify(
        self, entry: bytes, log: NoteKey, witnesses: Iterable[NoteKey] = ()
    ) -> tuple[Checkpoint, tuple[Signed, ...]]:
        """Return the checkpoint that proves that *entry* is in *log*, and which witnesses have signed it.

        Raises NoteError as open_checkpoint does, and `not-included`.
        """
        checkpoint, cosigners = open_checkpoint(self.checkpoint, log, witnesses)
        if not verify_inclusion(leaf_hash(entry), self.index, checkpoint.size, self.path, checkpoint.root):
            raise NoteError("not-included", f"the proof does not lead from entry {self.index} to the checkpoint")
        return checkpoint, cosigners


def decimal(text: str) -> int:
    """Read a number as logs write it: no sign, no leading zero. Raises NoteError `malformed-checkpoint`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or (text[0] == "0" and text != "0"):
        raise NoteError("malformed-checkpoint", f"{text[:40]!r} is not a number")
    if int(text) > _MAX_SIZE:
        raise NoteError("malformed-checkpoint", f"{text} is too large")
    return int(text)


def one_hash(text: str) -> bytes:
    """Read a SHA-256 in base64. Raises NoteError `malformed-checkpoint`."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if len(data) != HASH_BYTES or base64.b64encode(data).decode("ascii") != text:
        raise NoteError("malformed-checkpoint", f"{text[:60]!r} is not a SHA-256 in base64")
    return data
