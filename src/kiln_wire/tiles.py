"""A log as static files: tiles of 256 hashes, bundles of entries. Reading only.

Reference: C2SP tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from kiln_wire.merkle import HASH_BYTES, node_hash
from kiln_wire.note import NoteError

HEIGHT: Final = 8
WIDTH: Final = 1 << HEIGHT
CHECKPOINT: Final = "checkpoint"
ENTRIES: Final = "entries"
MAX_TILE_BYTES: Final = WIDTH * (2 + 0xFFFF)

Read = Callable[[str], bytes]
"""Path below the log's prefix -> content."""


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """Return the path of a tile: `tile/<level>/x001/x234/067.p/<width>`; *level* is a number, or ENTRIES."""
    parts = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        parts.insert(0, f"x{index % 1000:03d}")
    partial = "" if width == WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(parts)}{partial}"


def tile_width(level: int, index: int, size: int) -> int:
    """Return how many hashes the tile has in a log of *size* entries."""
    return min(WIDTH, (size >> HEIGHT * level) - index * WIDTH)


class TileReader:
    """The nodes of a log of *size* entries. What is read is not to be trusted before a root follows from it."""

    def __init__(self, read: Read, size: int) -> None:
        self._read = read
        self._size = size
        self._tiles: dict[tuple[int, int], bytes] = {}

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree (kiln_wire.merkle.Node). Raises NoteError `malformed-tile`."""
        tile_level, inner = divmod(level, HEIGHT)
        first = index << inner
        data = self._tile(tile_level, first // WIDTH)
        start = first % WIDTH
        hashes = [data[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at in range(start, start + (1 << inner))]
        if len(hashes[-1]) != HASH_BYTES:
            raise NoteError("malformed-tile", f"a tile of level {tile_level} is too short")
        while len(hashes) > 1:
            hashes = [node_hash(*pair) for pair in zip(hashes[::2], hashes[1::2], strict=True)]
        return hashes[0]

    def entries(self, start: int) -> Iterator[bytes]:
        """Yield the entries from *start* on. Raises NoteError `malformed-tile`."""
        for index in range(start // WIDTH, -(-self._size // WIDTH)):
            data = self._read(tile_path(ENTRIES, index, tile_width(0, index, self._size)))
            found = list(split_entries(data))
            if len(found) != tile_width(0, index, self._size):
                raise NoteError("malformed-tile", f"entry bundle {index} has {len(found)} entries")
            yield from found[max(0, start - index * WIDTH) :]

    def _tile(self, level: int, index: int) -> bytes:
        key = (level, index)
        if key not in self._tiles:
            width = tile_width(level, index, self._size)
            data = self._read(tile_path(level, index, width)) if width > 0 else b""
            if len(data) != width * HASH_BYTES or not data:
                raise NoteError("malformed-tile", f"tile {index} of level {level} must have {width} hashes")
            self._tiles[key] = data
        return self._tiles[key]


def split_entries(data: bytes) -> Iterator[bytes]:
    """Yield the entries of a bundle: each has its length before it, two bytes. Raises NoteError `malformed-tile`."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        entry = data[at + 2 : at + 2 + length]
        if at + 2 > len(data) or len(entry) != length:
            raise NoteError("malformed-tile", "an entry bundle ends in the middle of an entry")
        yield entry
        at += 2 + length


def join_entries(entries: list[bytes]) -> bytes:
    """Return a bundle. An entry has at most 65,535 bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
