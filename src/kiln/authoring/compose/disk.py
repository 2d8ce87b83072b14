"""The pipeline that makes a raw disk image of a tree: partitions, boot loaders, root file system."""

from __future__ import annotations

from typing import Any, Final

from kiln.authoring.compose.boot import GRUB_MODULES, GRUB_PREFIX
from kiln.authoring.compose.layout import (
    BIOS_BOOT_BYTES,
    BIOS_BOOT_START,
    BIOS_BOOT_TYPE,
    ESP_TYPE,
    ROOT_TYPE,
    SECTOR_BYTES,
    DiskLayout,
)

Json = dict[str, Any]

DISK_FILE: Final = "disk.raw"
DISK_PIPELINE: Final = "disk"
SYSTEMD_BOOT: Final = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi"


def disk_pipeline(
    layout: DiskLayout,
    *,
    tree: str,
    build: str,
    epoch: int,
    architecture: str,
    loader: Json,
    name: str = DISK_PIPELINE,
) -> Json:
    """Return the pipeline whose tree is DISK_FILE: a GPT with a boot loader and the root file system.

    *tree* and *build* are names of pipelines, *loader* is the stage that fills the EFI system partition. Where the
    layout has a place for it, GRUB for BIOS is there too.
    """
    stages: list[Json] = [
        {"type": "org.osbuild.truncate", "options": {"filename": DISK_FILE, "size": str(layout.size_bytes)}},
        {
            "type": "org.kiln.gpt",
            "options": {
                "filename": DISK_FILE,
                "uuid": layout.disk_uuid,
                "partitions": _partitions(layout, architecture),
            },
        },
        loader,
    ]
    if layout.bios:
        stages.append(_grub_bios_stage())
    stages.append(
        {
            # Last, because the layers above a large file would each hold a copy of it.
            "type": "org.kiln.ext4",
            "inputs": {"tree": tree_input(tree)},
            "options": {
                "filename": DISK_FILE,
                "start": layout.root_start,
                "size": layout.root_bytes,
                "uuid": layout.root_uuid,
                "hash-seed": layout.hash_seed,
                "label": "root",
            },
        }
    )
    return {"name": name, "build": f"name:{build}", "source-epoch": epoch, "stages": stages}


def grub_stage(layout: DiskLayout, vendor: str) -> Json:
    """Return the stage that puts the distribution's signed GRUB on the EFI system partition.

    *vendor* is the directory in which it looks for its configuration.
    """
    options = {**_esp(layout), "vendor": vendor, "root-uuid": layout.root_uuid, "prefix": GRUB_PREFIX}
    return {"type": "org.kiln.grub-efi", "options": options}


def systemd_boot_stage(layout: DiskLayout, tree: str, title: str, cmdline: str) -> Json:
    """Return the stage that puts systemd-boot, the kernel and its entry on the EFI system partition."""
    entry = f"title {title}\nlinux /kernel/vmlinuz\ninitrd /kernel/initrd.img\noptions {cmdline}\n"
    files = [
        {"to": "/EFI/BOOT/BOOTX64.EFI", "from": SYSTEMD_BOOT},
        {"to": "/loader/loader.conf", "text": "timeout 1\ndefault kiln.conf\n"},
        {"to": "/loader/entries/kiln.conf", "text": entry},
        {"to": "/kernel/vmlinuz", "from": "input://tree/vmlinuz"},
        {"to": "/kernel/initrd.img", "from": "input://tree/initrd.img"},
    ]
    return {"type": "org.kiln.esp", "inputs": {"tree": tree_input(tree)}, "options": {**_esp(layout), "files": files}}


def uki_stage(layout: DiskLayout, pipeline: str, file: str) -> Json:
    """Return the stage that puts a unified kernel image where the firmware starts it without being told."""
    files = [{"to": "/EFI/BOOT/BOOTX64.EFI", "from": f"input://uki/{file}"}]
    options = {**_esp(layout), "files": files}
    return {"type": "org.kiln.esp", "inputs": {"uki": tree_input(pipeline)}, "options": options}


def _esp(layout: DiskLayout) -> Json:
    return {
        "filename": DISK_FILE,
        "start": layout.esp_start,
        "size": layout.esp_bytes,
        "volid": layout.esp_volume_id,
        "label": "ESP",
    }


def tree_input(pipeline: str) -> Json:
    """Return the input that shows the tree of a pipeline."""
    return {"type": "org.osbuild.tree", "origin": "org.osbuild.pipeline", "references": [f"name:{pipeline}"]}


def file_input(pipeline: str, file: str) -> Json:
    """Return the input that shows one file of a pipeline's tree."""
    return {
        "type": "org.osbuild.files",
        "origin": "org.osbuild.pipeline",
        "references": {f"name:{pipeline}": {"file": file}},
    }


def _partitions(layout: DiskLayout, architecture: str) -> list[Json]:
    bios = {
        "name": "bios",
        "start": BIOS_BOOT_START,
        "size": BIOS_BOOT_BYTES,
        "type": BIOS_BOOT_TYPE,
        "uuid": layout.bios_uuid,
    }
    return [
        *([bios] if layout.bios else []),
        {"name": "esp", "start": layout.esp_start, "size": layout.esp_bytes, "type": ESP_TYPE, "uuid": layout.esp_uuid},
        {
            "name": "root",
            "start": layout.root_start,
            "size": layout.root_bytes,
            "type": ROOT_TYPE[architecture],
            "uuid": layout.root_partition_uuid,
        },
    ]


def _grub_bios_stage() -> Json:
    return {
        "type": "org.osbuild.grub2.inst",
        "options": {
            "filename": DISK_FILE,
            "platform": "i386-pc",
            "location": BIOS_BOOT_START // SECTOR_BYTES,
            "core": {
                "type": "mkimage",
                "partlabel": "gpt",
                "filesystem": "ext4",
                "modules": list(GRUB_MODULES),
            },
            "prefix": {"type": "partition", "partlabel": "gpt", "number": 2, "path": GRUB_PREFIX},
        },
    }
