"""The assembler that makes a disk, as pipelines whose result depends on nothing but their inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kiln.authoring.compose.boot import fstab_stage
from kiln.authoring.compose.disk import DISK_FILE, disk_pipeline, file_input, grub_stage
from kiln.authoring.compose.layout import MIB, DiskLayout, identifier, usable_bytes
from kiln.authoring.unlocked.checks import parse_size
from kiln.authoring.unlocked.model import DISK_ASSEMBLER, GRUB_STAGE, Json, stages
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln_wire.digest import Digest

if TYPE_CHECKING:
    from kiln.authoring.unlocked.lower import Locked

ESP_MOUNTPOINT: Final = "/boot/efi"
FAT_KINDS: Final = ("fat32", "fat", "vfat")
DEFAULT_VENDOR: Final = "debian"


@dataclass(frozen=True, slots=True)
class DiskWish:
    """A bootable disk as an assembler describes it in the short form, with `mountpoint`."""

    layout: DiskLayout
    format: str
    filename: str
    vendor: str

    def tree_stages(self) -> list[Json]:
        """Return what the tree needs to be the root of the disk."""
        mountpoint = {"path": ESP_MOUNTPOINT, "exist_ok": True, "parents": True, "mode": 0o700}
        return [{"type": "org.osbuild.mkdir", "options": {"paths": [mountpoint]}}, fstab_stage(self.layout)]


def disk_wish(document: Json, identity: Digest) -> DiskWish | None:
    """Return the disk, or None where osbuild's own assembler makes it (other forms, or no GRUB for UEFI).

    Identifiers that the manifest does not give follow from *identity*. Raises KilnError(MANIFEST, "unsupported-disk").
    """
    assembler = document.get("assembler") or {}
    if (assembler.get("type") or assembler.get("name")) != DISK_ASSEMBLER:
        return None
    options = assembler["options"]
    partitions = options.get("partitions", [])
    grub = next((stage["options"] for _, stage in stages(document, (GRUB_STAGE,))), None)
    if grub is None or not any("mountpoint" in partition for partition in partitions):
        return None
    by_mountpoint = {partition.get("mountpoint"): partition for partition in partitions}
    root, esp = by_mountpoint.get("/"), by_mountpoint.get(ESP_MOUNTPOINT)
    if root is None or esp is None or len(partitions) != 2 or partitions[0] is not esp:
        raise _unsupported(f"a bootable disk has two partitions here: {ESP_MOUNTPOINT}, then /")
    if esp.get("type") not in FAT_KINDS or root.get("type", "ext4") != "ext4":
        raise _unsupported(f"{ESP_MOUNTPOINT} must be fat32 and / ext4")
    size = parse_size(options["size"])
    layout = DiskLayout(
        size_bytes=size,
        disk_uuid=options["ptuuid"],
        bios_uuid=identifier(identity, "bios"),
        esp_uuid=esp.get("uuid") or identifier(identity, "esp"),
        esp_volume_id=identifier(identity, "esp-volume")[:8],
        root_uuid=(grub.get("rootfs") or {}).get("uuid") or grub["root_fs_uuid"],
        root_partition_uuid=root.get("uuid") or identifier(identity, "root-partition"),
        hash_seed=identifier(identity, "hash-seed"),
        root_bytes=root.get("size") or usable_bytes(size, root["start"]),
        bios=False,
        esp_start=esp.get("start", MIB),
        esp_bytes=esp["size"],
        root_start=root["start"],
    )
    vendor = (grub.get("uefi") or {}).get("vendor", DEFAULT_VENDOR)
    return DiskWish(layout, options["format"], options["filename"], vendor)


def output_pipelines(wish: DiskWish, tree: str, tools: str, locked: Locked) -> list[Json]:
    """Return the pipelines that make the disk of the pipeline *tree*; the last one's tree is the file alone."""
    raw = disk_pipeline(
        wish.layout,
        tree=tree,
        build=tools,
        epoch=locked.epoch,
        architecture=locked.architecture,
        loader=grub_stage(wish.layout, wish.vendor),
        name=f"{tree}-disk",
    )
    packed: Json = {"filename": wish.filename, "format": {"type": wish.format}}
    kind, name = "org.osbuild.qemu", "image"
    if wish.format == "qcow2":
        packed["format"]["compat"] = "1.1"
    elif wish.format == "raw.xz":
        kind, name, packed = "org.osbuild.xz", "file", {"filename": wish.filename}
    stage = {"type": kind, "inputs": {name: file_input(raw["name"], DISK_FILE)}, "options": packed}
    image = {"name": f"{tree}-image", "build": f"name:{tools}", "source-epoch": locked.epoch, "stages": [stage]}
    return [raw, image]


def _unsupported(problem: str) -> KilnError:
    return KilnError(
        Domain.MANIFEST,
        "unsupported-disk",
        problem,
        place=Place("<manifest>", path=".assembler.options.partitions"),
        exit_status=ExitStatus.USAGE,
    )
