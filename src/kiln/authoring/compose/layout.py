"""Where things are on the disk. All sizes are bytes; every identifier follows from the lock."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from kiln.errors import Domain, ExitStatus, KilnError
from kiln_wire.digest import Digest

MIB: Final = 1024 * 1024
SECTOR_BYTES: Final = 512
BIOS_BOOT_START: Final = MIB
BIOS_BOOT_BYTES: Final = MIB
ESP_START: Final = 2 * MIB
ESP_BYTES: Final = 128 * MIB
ROOT_START: Final = ESP_START + ESP_BYTES
GPT_BACKUP_BYTES: Final = MIB
"""Kept free at the end: the backup table takes 33 sectors; a whole MiB keeps the partition's end aligned."""

# Partition types: UEFI specification, section 5.3.3, and the Discoverable Partitions Specification.
BIOS_BOOT_TYPE: Final = "21686148-6449-6E6F-744E-656564454649"
ESP_TYPE: Final = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
ROOT_TYPE: Final = {
    "amd64": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    "arm64": "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
}

IDENTIFIERS: Final = uuid.UUID("5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a11")
"""Name space of the identifiers that are derived from locks (RFC 9562, version 5)."""
ROOM_TO_WORK_BYTES: Final = 256 * MIB
"""What a root file system must have beyond its packages: initrd, logs, the file system's own tables."""
FILE_SYSTEM_OVERHEAD: Final = 1.06
"""Inode tables and the rounding of files up to blocks, for trees of small files."""


@dataclass(frozen=True, slots=True)
class DiskLayout:
    """The disk of one image: BIOS boot partition (none if *bios* is false), EFI system partition, root."""

    size_bytes: int
    disk_uuid: str
    bios_uuid: str
    esp_uuid: str
    esp_volume_id: str
    root_uuid: str
    root_partition_uuid: str
    hash_seed: str
    root_bytes: int
    bios: bool = True
    esp_start: int = ESP_START
    esp_bytes: int = ESP_BYTES
    root_start: int = ROOT_START

    @classmethod
    def of(cls, lock_digest: Digest, size_bytes: int, *, bios: bool = True) -> DiskLayout:
        """Lay out a disk of *size_bytes*."""
        return cls(
            size_bytes=size_bytes,
            disk_uuid=identifier(lock_digest, "disk"),
            bios_uuid=identifier(lock_digest, "bios"),
            esp_uuid=identifier(lock_digest, "esp"),
            esp_volume_id=identifier(lock_digest, "esp-volume")[:8],
            root_uuid=identifier(lock_digest, "root"),
            root_partition_uuid=identifier(lock_digest, "root-partition"),
            hash_seed=identifier(lock_digest, "hash-seed"),
            root_bytes=usable_bytes(size_bytes, ROOT_START),
            bios=bios,
        )

    @property
    def esp_serial(self) -> str:
        """The EFI system partition's serial number as fstab spells it (`1A2B-3C4D`)."""
        return f"{self.esp_volume_id[:4]}-{self.esp_volume_id[4:]}".upper()


def identifier(lock_digest: Digest, role: str) -> str:
    """Return a UUID that is the same for the same lock and role."""
    return str(uuid.uuid5(IDENTIFIERS, f"{lock_digest}:{role}"))


def usable_bytes(disk_bytes: int, start: int) -> int:
    """Return how large a partition at *start* can be on a disk, in whole MiB; zero or less if it does not fit."""
    return (disk_bytes - start - GPT_BACKUP_BYTES) // MIB * MIB


def require_room(layout: DiskLayout, installed_bytes: int) -> None:
    """Refuse a disk on which the packages do not fit. Raises KilnError(COMPOSE, "disk-too-small")."""
    needed = int(installed_bytes * FILE_SYSTEM_OVERHEAD) + ROOM_TO_WORK_BYTES
    if layout.root_bytes >= needed:
        return
    smallest_mib = -(-(needed + ROOT_START + GPT_BACKUP_BYTES) // MIB)
    raise KilnError(
        Domain.COMPOSE,
        "disk-too-small",
        f"the disk has {layout.size_bytes // MIB} MiB, but the packages need {smallest_mib} MiB",
        hint=f"set disk.size to {smallest_mib}M or more, or leave it out",
        exit_status=ExitStatus.USAGE,
    )
