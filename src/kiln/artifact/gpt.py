"""The partitions of a raw disk image (UEFI specification 2.10, chapter 5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

SECTOR_BYTES: Final = 512
MAX_ENTRIES: Final = 1024
_SIGNATURE: Final = b"EFI PART"


@dataclass(frozen=True, slots=True)
class Partition:
    """An entry that is in use; positions are bytes."""

    number: int
    name: str
    type: UUID
    id: UUID
    start: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DiskTable:
    """The table of a disk. *id* is the disk's own."""

    id: UUID
    partitions: tuple[Partition, ...]


def read_gpt(path: Path) -> DiskTable | None:
    """Return the partition table of a raw image, or None where it has no GPT that makes sense. Raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(SECTOR_BYTES)
        header = file.read(92)
        if len(header) < 92 or not header.startswith(_SIGNATURE):
            return None
        first, count, length = struct.unpack_from("<QII", header, 72)
        if not 128 <= length <= 4096 or count > MAX_ENTRIES:
            return None
        file.seek(first * SECTOR_BYTES)
        table = file.read(count * length)
    found = []
    for number in range(len(table) // length):
        entry = table[number * length : (number + 1) * length]
        start, end = struct.unpack_from("<QQ", entry, 32)
        kind = UUID(bytes_le=entry[:16])
        if kind.int and start <= end and (end + 1) * SECTOR_BYTES <= size:
            name = entry[56:128].decode("utf-16-le", "replace").rstrip("\0")
            identity = UUID(bytes_le=entry[16:32])
            bounds = (start * SECTOR_BYTES, (end - start + 1) * SECTOR_BYTES)
            found.append(Partition(number + 1, name, kind, identity, *bounds))
    return DiskTable(UUID(bytes_le=header[56:72]), tuple(found))
