"""What a stage says when its build root lacks a program, or the manifest an input or a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from stage_documents import DOCUMENTS
from stage_tools import files_input, put, tree_input

Stage = Any

PROGRAMS: Final = {
    "org.kiln.image": "sfdisk",
    "org.kiln.oci": "tar",
    "org.kiln.overlay": "cp",
    "org.osbuild.dmverity": "veritysetup",
    "org.osbuild.erofs": "mkfs.erofs",
    "org.osbuild.gzip": "gzip",
    "org.osbuild.luks2.format": "cryptsetup",
    "org.osbuild.luks2.remove-key": "cryptsetup",
    "org.osbuild.mkfs.btrfs": "mkfs.btrfs",
    "org.osbuild.mkfs.ext4": "mkfs.ext4",
    "org.osbuild.mkfs.fat": "mkfs.fat",
    "org.osbuild.mkfs.xfs": "mkfs.xfs",
    "org.osbuild.mkswap": "mkswap",
    "org.osbuild.oci-archive": "tar",
    "org.osbuild.parted": "parted",
    "org.osbuild.sfdisk": "sfdisk",
    "org.osbuild.sgdisk": "sgdisk",
    "org.osbuild.tar": "xz",
    "org.osbuild.untar": "tar",
    "org.osbuild.xorrisofs": "xorrisofs",
    "org.osbuild.xz": "xz",
    "org.osbuild.zstd": "zstd",
}
UUID: Final = "5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a11"
OLDER: Final[list[tuple[str, str, dict[str, Any]]]] = [
    ("org.osbuild.squashfs", "mksquashfs", {"filename": "x", "compression": {"method": "xz"}}),
    ("org.osbuild.qemu", "qemu-img", {"filename": "x", "format": {"type": "qcow2"}}),
    ("org.osbuild.chmod", "chmod", {"items": {"/in": {"mode": "0600"}}}),
    ("org.osbuild.chown", "chown", {"items": {"/in": {"user": 0}}}),
    ("org.osbuild.copy", "cp", {"paths": [{"from": "tree:///in", "to": "tree:///out"}]}),
    ("org.kiln.disk-image", "qemu-img", {"filename": "d", "format": "vdi", "uuid": UUID}),
    ("org.kiln.appliance", "qemu-img", {"filename": "a", "kind": "ova", "name": "a", "uuid": UUID}),
    ("org.kiln.gpt", "sfdisk", {"filename": "disk", "uuid": UUID, "partitions": []}),
    (
        "org.kiln.ext4",
        "mke2fs",
        {"filename": "disk", "start": 0, "size": 4194304, "uuid": UUID, "hash-seed": UUID},
    ),
]
DEVICES: Final = {name: {"path": "none"} for name in ("device", "data_device", "hash_device")}


@pytest.mark.parametrize(("name", "program"), PROGRAMS.items())
def test_a_missing_program_is_named(stage: Stage, tmp_path: Path, name: str, program: str) -> None:
    stage.search = str(tmp_path)
    document = DOCUMENTS[name][0][0]
    source = put(tmp_path, "in/file", "x")
    inputs = {
        key: files_input(source) if key == "file" else tree_input(source.parent) for key in document.get("inputs", {})
    }
    said = stage.refused(name, document["options"], inputs=inputs, devices=DEVICES)
    assert said == f"{name}: the build root has no program `{program}`\n"


@pytest.mark.parametrize(("name", "program", "options"), OLDER)
def test_a_program_that_an_older_stage_misses_is_named(
    stage: Stage, tmp_path: Path, name: str, program: str, options: dict[str, Any]
) -> None:
    stage.search = str(tmp_path)
    put(stage.tree, "in", "")
    put(stage.tree, "disk", "x" * 100_000)
    inputs = {"tree": tree_input(tmp_path), "image": files_input(put(tmp_path, "in/disk", ""))}
    said = stage.refused(name, options, inputs=inputs)
    assert said == f"{name}: the build root has no program `{program}`\n"


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"org.kiln.image", "org.osbuild.oci-archive"}))
def test_a_missing_input_or_device_is_named(stage: Stage, name: str) -> None:
    stage.fakes.add(PROGRAMS[name])
    said = stage.refused(name, DOCUMENTS[name][0][0]["options"])
    assert said.startswith(f"{name}: the stage needs the ")
