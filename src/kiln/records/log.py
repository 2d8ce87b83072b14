"""The transparency log of all records: an append-only Merkle tree, kept as static files beside the records.

The chain of records is the truth; the log follows it, and never shows more than was appended there. It can be served
by any web server (C2SP tlog-tiles), and a copy of it is a copy of the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from kiln.attestation.signer import Signer
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux.files import write_atomic
from kiln.linux.locks import exclusive
from kiln.records.store import Records
from kiln_wire.checkpoint import Checkpoint, InclusionProof, open_checkpoint
from kiln_wire.digest import Digest
from kiln_wire.ed25519 import Ed25519Key
from kiln_wire.log_entry import log_entry
from kiln_wire.merkle import HASH_BYTES, consistency_proof, inclusion_proof, leaf_hash, node_hash, root_hash
from kiln_wire.note import Note, NoteError, NoteKey, NoteSignature
from kiln_wire.tiles import CHECKPOINT, ENTRIES, WIDTH, TileReader, join_entries, split_entries, tile_path

DIRECTORY: Final = "log"
ORIGIN_PREFIX: Final = "kiln.records/"


class RecordLog:
    """The log below one state directory. Safe to be used by several processes at once."""

    def __init__(self, state: Path, signer: Signer) -> None:
        """*signer* must have an Ed25519 key. Raises KilnError(RECORD, "bad-log-key")."""
        key = signer.public_key
        if not isinstance(key, Ed25519Key):
            raise _refused("bad-log-key", f"a log's key must be Ed25519, not {key.algorithm}")
        self.directory = state / DIRECTORY
        self.key = log_key(key)
        self._signer = signer

    def read(self, path: str) -> bytes:
        """Return a file of the log (kiln_wire.tiles.Read). Raises KilnError(RECORD, "unusable-log")."""
        try:
            return (self.directory / path).read_bytes()
        except OSError as error:
            raise _refused("unusable-log", f"{self.directory / path} can't be read: {error.strerror}") from error

    def checkpoint(self) -> Checkpoint | None:
        """Return the newest checkpoint; None before the first. Raises KilnError(RECORD, "unusable-log")."""
        data = self._checkpoint_data()
        if data is None:
            return None
        try:
            return open_checkpoint(data, self.key)[0]
        except NoteError as error:
            raise _refused("unusable-log", f"the checkpoint of {self.directory} can't be used: {error}") from error

    def catch_up(self, records: Records) -> Checkpoint:
        """Take in every record that is not in the log, and sign a checkpoint over all.

        Raises KilnError(RECORD): `log-disagrees` if the records are not those that the log has, `unusable-log`.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with exclusive(self.directory / ".lock"):
            known = self.checkpoint()
            size = 0 if known is None else known.size
            digests = records.digests(max(0, size - 1))
            if size:
                self._check_last(next(digests, None), size)
            entries = [log_entry(digest) for digest in digests]
            if known is not None and not entries:
                return known
            self._append(size, entries)
            total = size + len(entries)
            checkpoint = Checkpoint(self.key.name, total, root_hash(total, TileReader(self.read, total).node))
            self._write_checkpoint(checkpoint)
            return checkpoint

    def prove(self, index: int) -> InclusionProof:
        """Return the proof that entry *index* is in the log. Raises KilnError(RECORD, "not-in-log")."""
        checkpoint = self.checkpoint()
        if checkpoint is None or index >= checkpoint.size:
            raise _refused("not-in-log", f"the log has no entry {index}", ExitStatus.NOT_FOUND)
        path = inclusion_proof(index, checkpoint.size, TileReader(self.read, checkpoint.size).node)
        return InclusionProof(index, path, self._checkpoint_data() or b"")

    def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the log of *new* entries continues that of *old*."""
        return consistency_proof(old, new, TileReader(self.read, new).node)

    def cosign(self, size: int, signatures: Sequence[NoteSignature]) -> None:
        """Add witnesses' signatures to the newest checkpoint, if it still is the one of *size* entries."""
        with exclusive(self.directory / ".lock"):
            note = Note.parse(self._checkpoint_data() or b"")
            if Checkpoint.parse(note.text).size != size:
                return
            fresh = {(item.name, item.id): item for item in (*note.signatures, *signatures)}
            write_atomic(self.directory / CHECKPOINT, Note(note.text, tuple(fresh.values())).data)

    def _checkpoint_data(self) -> bytes | None:
        path = self.directory / CHECKPOINT
        return path.read_bytes() if path.exists() else None

    def _check_last(self, digest: Digest | None, size: int) -> None:
        last = next(iter(TileReader(self.read, size).entries(size - 1)), b"")
        if digest is None or log_entry(digest) != last:
            raise _refused(
                "log-disagrees", f"record {size} is not the one that the log has", detail="the log shows: " + repr(last)
            )

    def _append(self, size: int, entries: Sequence[bytes]) -> None:
        self._append_entries(size, entries)
        hashes, level = [leaf_hash(entry) for entry in entries], 0
        while hashes:
            hashes = self._append_hashes(level, size, hashes)
            level, size = level + 1, size // WIDTH

    def _append_entries(self, size: int, entries: Sequence[bytes]) -> None:
        index, width = divmod(size, WIDTH)
        pending = list(split_entries(self.read(tile_path(ENTRIES, index, width)))) if width else []
        pending += entries
        for start in range(0, len(pending), WIDTH):
            bundle = pending[start : start + WIDTH]
            self._write(tile_path(ENTRIES, index + start // WIDTH, len(bundle)), join_entries(bundle))

    def _append_hashes(self, level: int, size: int, hashes: Sequence[bytes]) -> list[bytes]:
        """Add hashes to a level that has *size* of them, and return those of the tiles that became full."""
        index, width = divmod(size, WIDTH)
        data = self.read(tile_path(level, index, width)) if width else b""
        pending = [data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES)] + list(hashes)
        full = []
        for start in range(0, len(pending), WIDTH):
            tile = pending[start : start + WIDTH]
            self._write(tile_path(level, index + start // WIDTH, len(tile)), b"".join(tile))
            if len(tile) == WIDTH:
                full.append(_fold(tile))
        return full

    def _write(self, path: str, data: bytes) -> None:
        target = self.directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, data)

    def _write_checkpoint(self, checkpoint: Checkpoint) -> None:
        signature = self._signer.sign(checkpoint.text.encode("utf-8"))
        note = Note(checkpoint.text, (NoteSignature(self.key.name, self.key.id, signature),))
        write_atomic(self.directory / CHECKPOINT, note.data)


def log_key(key: Ed25519Key) -> NoteKey:
    """Return the key of a log with its name, which follows from the key."""
    return NoteKey(ORIGIN_PREFIX + Digest.of(key.der).hex[:16], key)


def check_log(log: RecordLog, records: Records) -> Iterator[str]:
    """Compute the whole tree again from the records, and yield what is wrong."""
    checkpoint = log.checkpoint()
    if checkpoint is None:
        return
    leaves = [leaf_hash(log_entry(digest)) for digest in records.digests(0)]
    if len(leaves) < checkpoint.size:
        yield f"the log has {checkpoint.size} entries, but there are {len(leaves)} records"
        return

    def node(level: int, index: int) -> bytes:
        return _fold(leaves[index << level : (index + 1) << level])

    if root_hash(checkpoint.size, node) != checkpoint.root:
        yield "the records are not those that the checkpoint was signed for"
    try:
        if root_hash(checkpoint.size, TileReader(log.read, checkpoint.size).node) != checkpoint.root:
            yield "the tiles do not lead to the checkpoint"
    except (NoteError, KilnError) as error:
        yield f"the tiles can't be read: {error}"


def _fold(hashes: Sequence[bytes]) -> bytes:
    level = list(hashes)
    while len(level) > 1:
        level = [node_hash(*pair) for pair in zip(level[::2], level[1::2], strict=True)]
    return level[0]


def _refused(reason: str, message: str, exit_status: ExitStatus = ExitStatus.REFUSED, detail: str = "") -> KilnError:
    return KilnError(
        Domain.RECORD,
        reason,
        message,
        detail=detail,
        hint="`kiln log check` compares the log with the records; restore both from one backup",
        exit_status=exit_status,
    )
