"""Stages that make the forms in which an image goes out: what the tools of the field say, and equal bytes."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from stage_tools import SYSTEM_PATH, files_input, put, tool, tree_input

Stage = Any
UUID = "5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a11"
MIB = 1024 * 1024
IDENTITY = "ab" * 32


def have(program: str) -> bool:
    return shutil.which(program, path=SYSTEM_PATH) is not None


def raw_disk(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / "disk.raw"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        file.seek(3 * MIB)
        file.write(b"content of the disk" * 5000)
    return path


@pytest.mark.skipif(not have("qemu-img"), reason="needs qemu-img")
@pytest.mark.parametrize("kind", ["vmdk", "vmdk-stream", "vdi", "vhdx", "vhd", "vhd-fixed"])
def test_disk_images_hold_the_disk_and_no_lot_decides_about_a_byte(stage: Stage, tmp_path: Path, kind: str) -> None:
    raw = raw_disk(tmp_path / "in")
    image = stage.tree / "d.img"  # a VMDK holds its own name
    made = []
    for identifier in (UUID, UUID, UUID[:-4] + "0000"):
        options = {"filename": "d.img", "format": kind, "uuid": identifier}
        stage.ok("org.kiln.disk-image", options, inputs={"image": files_input(raw)})
        made.append(image.read_bytes())
    assert made[0] == made[1] != made[2]
    driver = {"vmdk-stream": "vmdk", "vhd": "vpc", "vhd-fixed": "vpc"}.get(kind, kind)
    tool("qemu-img", "compare", "-f", driver, "-F", "raw", image, raw)
    if driver != "vpc":
        tool("qemu-img", "check", "-f", driver, image)


@pytest.mark.skipif(not have("qemu-img"), reason="needs qemu-img")
@pytest.mark.parametrize("kind", ["ova", "vagrant", "gcp"])
def test_appliances_are_archives_in_the_order_that_their_readers_want(stage: Stage, tmp_path: Path, kind: str) -> None:
    raw = raw_disk(tmp_path / "in")
    for name in ("1", "2"):
        stage.ok(
            "org.kiln.appliance",
            {"filename": name, "kind": kind, "name": "box", "uuid": UUID},
            inputs={"image": files_input(raw)},
        )
    assert (stage.tree / "1").read_bytes() == (stage.tree / "2").read_bytes()
    assert sorted(path.name for path in stage.tree.iterdir()) == ["1", "2"]
    with tarfile.open(stage.tree / "1") as archive:
        names = archive.getnames()
        content = {name: (archive.extractfile(name) or pytest.fail(name)).read() for name in names}
    if kind == "ova":
        assert names == ["box.ovf", "box.mf", "box-disk1.vmdk"]
        for line in content["box.mf"].decode().splitlines():
            name, digest = line.removeprefix("SHA256(").split(")= ")
            assert hashlib.sha256(content[name]).hexdigest() == digest
        assert f'ovf:capacity="{8 * MIB}"'.encode() in content["box.ovf"]
    elif kind == "vagrant":
        assert json.loads(content["metadata.json"])["format"] == "qcow2"
    else:
        assert names == ["disk.raw"]
        assert content["disk.raw"] == raw.read_bytes()


@pytest.mark.parametrize("blocks", [1, 2, 128, 129, 128 * 128 + 1])
def test_the_hash_tree_is_the_one_of_cryptsetup(stage: Stage, tmp_path: Path, blocks: int) -> None:
    data = tmp_path / "data"
    with data.open("wb") as file:
        file.truncate(blocks * 4096)
        file.write(b"some content")
    options = {"filename": "v", "root-hash-file": "/h", "salt": "00ff", "uuid": UUID}
    stage.ok("org.kiln.verity", options, inputs={"data": files_input(data)})
    root = (stage.tree / "h").read_text(encoding="ascii").strip()
    assert len(root) == 64
    if have("veritysetup"):
        tool("veritysetup", "verify", data, stage.tree / "v", root)
        with data.open("r+b") as file:
            file.seek(blocks * 4096 - 1)
            file.write(b"\1")
        argv = ["veritysetup", "verify", str(data), str(stage.tree / "v"), root]
        assert subprocess.run(argv, check=False, capture_output=True).returncode != 0


def test_data_that_is_no_whole_number_of_blocks_is_refused(stage: Stage, tmp_path: Path) -> None:
    data = put(tmp_path, "data", "short")
    options = {"filename": "v", "root-hash-file": "/h"}
    assert "whole number of blocks" in stage.refused("org.kiln.verity", options, inputs={"data": files_input(data)})


@pytest.mark.skipif(not (have("mkfs.fat") and have("mcopy")), reason="needs dosfstools and mtools")
def test_a_system_partition_has_its_files(stage: Stage, tmp_path: Path) -> None:
    kernel = put(tmp_path, "in/kernel.efi", "MZ kernel")
    files = [
        {"to": "/EFI/BOOT/BOOTX64.EFI", "from": "input://uki/kernel.efi"},
        {"to": "/loader/loader.conf", "text": "timeout 1\n"},
    ]
    options = {"size": 8 * MIB, "volid": "0123abcd", "label": "ESP", "files": files}
    for name in ("1", "2"):
        stage.ok("org.kiln.esp", {**options, "filename": name}, inputs={"uki": tree_input(kernel.parent)})
    assert (stage.tree / "1").read_bytes() == (stage.tree / "2").read_bytes()
    assert tool("mtype", "-i", stage.tree / "1", "::/EFI/BOOT/BOOTX64.EFI") == b"MZ kernel"
    assert tool("mtype", "-i", stage.tree / "1", "::/loader/loader.conf") == b"timeout 1\n"
    tool("fsck.fat", "-n", stage.tree / "1")
    missing = [{"to": "/a", "from": "/nothing/there"}]
    assert "/nothing/there" in stage.refused("org.kiln.esp", {**options, "filename": "3", "files": missing})


def efi_program(sections: int) -> bytes:
    """Return a PE32+ program whose headers have room for more sections."""
    optional = struct.pack("<HBBIIIII", 0x20B, 0, 0, 512, 0, 0, 0x1000, 0x1000) + struct.pack("<QII", 0, 4096, 512)
    optional += bytes(16) + struct.pack("<IIII", 0x1000 * (sections + 1), 1024, 7, 0)
    optional = optional.ljust(240, b"\0")
    head = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40)
    head += b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, sections, 99, 0, 0, len(optional), 0x22) + optional
    for index in range(sections):
        head += struct.pack("<8sIIIIIIHHI", b".text", 100, 0x1000 * (index + 1), 512, 1024 + 512 * index, 0, 0, 0, 0, 0)
    return head.ljust(1024, b"\0") + b"\x90" * 512 * sections


def test_sections_are_added_behind_the_others() -> None:
    import importlib.util
    import sys

    libdir = Path(__file__).parents[2] / "libdir"
    sys.path.insert(0, str(libdir))
    try:
        pe_sections = importlib.import_module("osbuild.util.pe_sections")
    finally:
        sys.path.remove(str(libdir))
    made = pe_sections.with_sections(efi_program(2), [(".cmdline", b"quiet"), (".linux", b"k" * 5000)])
    assert struct.unpack_from("<H", made, 0x40 + 6) == (4,)
    table = 0x40 + 24 + 240
    found = {}
    for index in range(4):
        name, size, address, raw, start = struct.unpack_from("<8sIIII", made, table + 40 * index)
        found[name.rstrip(b"\0")] = (address, made[start : start + size])
        assert raw % 512 == start % 512 == 0
        assert address % 4096 == 0
    assert found[b".cmdline"] == (0x3000, b"quiet")
    assert found[b".linux"] == (0x4000, b"k" * 5000)
    assert struct.unpack_from("<I", made, 0x40 + 24 + 56) == (0x6000,)
    with pytest.raises(ValueError, match="no room"):
        pe_sections.with_sections(efi_program(2), [(".x", b"")] * 20)
    with pytest.raises(ValueError, match="not an EFI program"):
        pe_sections.with_sections(b"\x7fELF" + bytes(2000), [])


def debian_tree(root: Path, version: str) -> Path:
    """Make a tree with dpkg's lists of three packages, of which one changes with *version*."""
    for name, path in (("libc6", "usr/lib/libc.so.6"), ("nginx", "usr/sbin/nginx"), ("curl", "usr/bin/curl")):
        put(root, path, f"{name} {version if name == 'nginx' else 1}")
        put(root, f"var/lib/dpkg/info/{name}.list", f"/.\n/usr\n/{path}\n")
    put(
        root,
        "var/lib/dpkg/status",
        f"Package: libc6\nEssential: yes\nVersion: 1\n\nPackage: nginx\nVersion: {version}\n",
    )
    put(root, "etc/hostname", "kiln")
    (root / "srv").mkdir(exist_ok=True)
    return root


def layers_of(archive: Path) -> list[str]:
    with tarfile.open(archive) as file:
        blobs = {
            name.rpartition("/")[2]: (file.extractfile(name) or pytest.fail(name)).read()
            for name in file.getnames()
            if file.getmember(name).isfile()
        }
    index = json.loads(blobs["index.json"])
    manifest = json.loads(blobs[index["manifests"][0]["digest"].removeprefix("sha256:")])
    config = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"])
    for layer in manifest["layers"]:
        digest = layer["digest"].removeprefix("sha256:")
        assert hashlib.sha256(blobs[digest]).hexdigest() == digest
        assert len(blobs[digest]) == layer["size"]
    return [layer["digest"] for layer in manifest["layers"]]


def test_a_changed_package_changes_its_layer_and_the_last(stage: Stage, tmp_path: Path) -> None:
    found = []
    for number, version in enumerate(("1", "1", "2")):
        tree = debian_tree(tmp_path / f"tree{number}", version)
        options = {"filename": f"{number}.tar", "architecture": "amd64", "layers": 30}
        stage.ok("org.kiln.oci", options, inputs={"tree": tree_input(tree)})
        found.append(layers_of(stage.tree / f"{number}.tar"))
    assert (stage.tree / "0.tar").read_bytes() == (stage.tree / "1.tar").read_bytes()
    before, after = found[0], found[2]
    assert len(before) == len(after) == 4
    changed = [index for index in range(4) if before[index] != after[index]]
    assert len(changed) == 2
    assert changed[-1] == 3
    assert 0 not in changed
