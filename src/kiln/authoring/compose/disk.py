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


def disk_pipeline(
    layout: DiskLayout, *, tree: str, build: str, epoch: int, architecture: str, vendor: str, name: str = DISK_PIPELINE
) -> Json:
    """Return the pipeline whose tree is DISK_FILE: a GPT with GRUB for both firmwares, or for UEFI alone.

    *tree* and *build* are names of pipelines. *vendor* is the directory in which the distribution's signed GRUB looks
    for its configuration.
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
        {
            "type": "org.kiln.grub-efi",
            "options": {
                "filename": DISK_FILE,
                "start": layout.esp_start,
                "size": layout.esp_bytes,
                "volid": layout.esp_volume_id,
                "label": "ESP",
                "vendor": vendor,
                "root-uuid": layout.root_uuid,
                "prefix": GRUB_PREFIX,
            },
        },
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
