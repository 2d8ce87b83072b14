"""Watch a log from outside: every checkpoint must continue the one before, and every entry must be in its tree.

A log that shows two people two histories has forked. Whoever keeps a checkpoint can tell: no consistency proof leads
from it to the other history.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kiln.linux.files import write_atomic
from kiln.linux.locks import exclusive
from kiln_wire.checkpoint import Checkpoint, open_checkpoint
from kiln_wire.finding import Finding
from kiln_wire.merkle import consistency_proof, leaf_hash, root_hash, verify_consistency
from kiln_wire.note import NoteError, NoteKey
from kiln_wire.tiles import CHECKPOINT, Read, TileReader

STEP: Final = "monitor"
FORK_SUFFIX: Final = ".fork"


@dataclass(frozen=True, slots=True)
class Watched:
    """What one look at a log has shown."""

    checkpoint: Checkpoint | None
    """The newest that is believed; None if there never was one."""
    entries_checked: int
    findings: tuple[Finding, ...]


def watch(read: Read, key: NoteKey, memory: Path) -> Watched:
    """Look at a log and remember its checkpoint in the file *memory*, if it continues the one that is there.

    Two checkpoints that contradict each other are kept side by side in `<memory>.fork`: with the log's signature on
    both, that is proof for anybody.
    """
    memory.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(memory.with_name(memory.name + ".lock")):
        known = _remembered(memory, key)
        data = read(CHECKPOINT)
        try:
            fresh, _ = open_checkpoint(data, key)
        except NoteError as error:
            return Watched(
                known, 0, (Finding(STEP, CHECKPOINT, error.reason, f"a checkpoint of {key.name}", str(error)),)
            )
        finding = _contradiction(read, known, fresh)
        if finding is not None:
            if finding.reason == "fork":
                write_atomic(memory.with_name(memory.name + FORK_SUFFIX), memory.read_bytes() + b"\n" + data)
            return Watched(known, 0, (finding,))
        count, finding = _check_entries(read, known, fresh)
        if finding is not None:
            return Watched(known, count, (finding,))
        write_atomic(memory, data)
        return Watched(fresh, count, ())


def _remembered(memory: Path, key: NoteKey) -> Checkpoint | None:
    return open_checkpoint(memory.read_bytes(), key)[0] if memory.exists() else None


def _contradiction(read: Read, known: Checkpoint | None, fresh: Checkpoint) -> Finding | None:
    if known is None or known == fresh:
        return None
    if fresh.size < known.size:
        return Finding(STEP, CHECKPOINT, "rolled-back", f"at least {known.size} entries", str(fresh.size))
    if fresh.size == known.size:
        return Finding(STEP, CHECKPOINT, "fork", known.root.hex(), fresh.root.hex())
    try:
        proof = consistency_proof(known.size, fresh.size, TileReader(read, fresh.size).node)
    except NoteError as error:
        return Finding(STEP, CHECKPOINT, error.reason, "tiles of the whole log", str(error))
    if not verify_consistency(known.size, fresh.size, known.root, fresh.root, proof):
        expected = f"a log that continues the {known.size} entries with the hash {known.root.hex()}"
        return Finding(STEP, CHECKPOINT, "fork", expected, f"{fresh.size} entries with the hash {fresh.root.hex()}")
    return None


def _check_entries(read: Read, known: Checkpoint | None, fresh: Checkpoint) -> tuple[int, Finding | None]:
    start = 0 if known is None else known.size
    tiles = TileReader(read, fresh.size)
    count = 0
    try:
        if root_hash(fresh.size, tiles.node) != fresh.root:
            return 0, Finding(STEP, CHECKPOINT, "malformed-tile", fresh.root.hex(), "tiles that lead to another hash")
        for index, entry in enumerate(tiles.entries(start), start=start):
            if leaf_hash(entry) != tiles.node(0, index):
                return count, Finding(STEP, f"entry {index}", "changed-entry", tiles.node(0, index).hex(), "another")
            count += 1
    except NoteError as error:
        return count, Finding(STEP, CHECKPOINT, error.reason, "tiles of the whole log", str(error))
    return count, None
