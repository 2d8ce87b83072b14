"""Disk images made with the real tools, and read back with others."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Stage = Any
Tool = Callable[..., bytes]
UUID = "5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a11"
OTHER = "5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a12"
LINUX = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
MIB = 1024 * 1024
EPOCH = 1_700_000_000


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def disk(tree: Path, size: int) -> Path:
    path = tree / "disk"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def twice(make: Callable[[], Path]) -> Path:
    """Make a file two times, some seconds of the clock apart, and expect the same bytes."""
    first = digest(make())
    time.sleep(1.1)
    path = make()
    assert digest(path) == first
    return path


def partition(**changes: Any) -> dict[str, Any]:
    return {"name": "root", "start": 2 * MIB, "size": MIB, "type": LINUX, "uuid": OTHER, **changes}


@pytest.mark.parametrize("last", [2 * MIB, 8 * MIB - 33 * 512], ids=["some room", "to the last sector"])
def test_gpt_is_read_back_as_it_was_asked_for(stage: Stage, tree: Path, run_tool: Tool, needs: Any, last: int) -> None:
    needs("sfdisk")
    partitions = [
        {"name": "EFI é", "start": MIB, "size": MIB // 2, "type": ESP_TYPE, "uuid": UUID, "legacy-boot": True},
        partition(start=last - MIB // 2, size=MIB // 2),
    ]

    def make() -> Path:
        path = disk(tree, 8 * MIB)
        stage.ok("org.kiln.gpt", {"filename": "/disk", "uuid": UUID, "partitions": partitions})
        return path

    table = json.loads(run_tool("sfdisk", "--json", twice(make)))["partitiontable"]
    assert (table["label"], table["id"]) == ("gpt", UUID.upper())
    first, second = table["partitions"]
    assert (first["start"], first["size"], first["type"], first["uuid"]) == (2048, 1024, ESP_TYPE, UUID.upper())
    assert (first["name"], first["attrs"]) == ("EFI é", "LegacyBIOSBootable")
    assert (second["start"], second["size"]) == ((last - MIB // 2) // 512, 1024)
    assert run_tool("sfdisk", "--verify", tree / "disk").splitlines()[1] == b"No errors detected."


@pytest.mark.parametrize(
    ("partitions", "words"),
    [
        ([partition(start=MIB + 1)], "not aligned"),
        ([partition(size=1000)], "not aligned"),
        ([partition(), partition(start=2 * MIB + 512)], "inside the one before it"),
        ([partition(size=6 * MIB)], "16896 bytes past the usable end"),
        ([partition(start=512)], "already used"),
    ],
)
def test_partitions_that_do_not_fit_are_refused(
    stage: Stage, tree: Path, needs: Any, partitions: list[dict[str, Any]], words: str
) -> None:
    needs("sfdisk")
    path = disk(tree, 8 * MIB)
    assert words in stage.refused("org.kiln.gpt", {"filename": "disk", "uuid": UUID, "partitions": partitions})
    assert path.read_bytes() == bytes(8 * MIB)


def fill(root: Path) -> None:
    """Put one of each kind of file into a tree; times are fixed, all others are those of now."""
    (root / "etc/deep").mkdir(parents=True)
    (root / "etc/file").write_text("content", encoding="ascii")
    (root / "etc/setuid").write_text("x", encoding="ascii")
    os.chown(root / "etc/setuid", 4001, 70_000)
    (root / "etc/setuid").chmod(0o4750)
    (root / "etc/hard").hardlink_to(root / "etc/file")
    (root / "etc/link").symlink_to("../usr")
    (root / "etc/long").symlink_to("x" * 200)
    (root / "etc/deep/many").mkdir()
    for number in range(300):  # enough for a hashed directory
        (root / f"etc/deep/many/a-rather-long-name-{number:04d}").touch()
    with (root / "etc/sparse").open("wb") as file:
        file.truncate(3 * MIB)
    (root / "etc/big").write_bytes(bytes(range(256)) * 8192)
    os.setxattr(root / "etc/file", "user.kiln", b"value")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(root / "fifo")
    for path in (root, *root.rglob("*")):
        os.utime(path, (EPOCH - 10, EPOCH - 10), follow_symlinks=False)


@pytest.fixture
def ext4(stage: Stage, tree: Path, tmp_path: Path, needs: Any) -> Path:
    """An image with a file system at 1 MiB, made two times from copies of a tree that were made at other times."""
    needs("mke2fs", "debugfs", "e2fsck")
    fill(tmp_path / "source")
    options = {"filename": "disk", "start": MIB, "size": 32 * MIB, "uuid": UUID, "hash-seed": OTHER, "label": "root"}

    def make() -> Path:
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        subprocess.run(["cp", "-a", tmp_path / "source", tmp_path / "in"], check=True)
        (tmp_path / "in/etc/file").read_bytes()
        path = disk(tree, 34 * MIB)
        stage.ok("org.kiln.ext4", options, inputs={"tree": {"path": f"{tmp_path}/in"}})
        return path

    return twice(make)


def debugfs(run_tool: Tool, image: Path, request: str) -> str:
    return run_tool("debugfs", "-R", request, f"{image}?offset={MIB}").decode()


@pytest.mark.root
def test_ext4_is_the_same_twice_clean_and_holds_the_tree(ext4: Path, run_tool: Tool) -> None:
    check = run_tool("e2fsck", "-f", "-n", f"{ext4}?offset={MIB}").decode()
    assert "root:" in check
    header = run_tool("dumpe2fs", "-h", f"{ext4}?offset={MIB}").decode()
    assert UUID in header
    assert OTHER in header
    assert debugfs(run_tool, ext4, "cat /etc/file") == "content"
    file = debugfs(run_tool, ext4, "stat /etc/file")
    assert "Links: 2" in file
    assert debugfs(run_tool, ext4, "stat /etc/hard").partition("\n")[0].split()[:2] == file.split()[:2]
    assert 'user.kiln (5) = "value"' in debugfs(run_tool, ext4, "ea_list /etc/file")
    setuid = debugfs(run_tool, ext4, "stat /etc/setuid")
    assert "Mode:  04750" in setuid
    assert "User:  4001   Group: 70000" in setuid
    assert 'Fast link dest: "../usr"' in debugfs(run_tool, ext4, "stat /etc/link")
    assert "Type: symlink" in debugfs(run_tool, ext4, "stat /etc/long")
    assert "Type: character special" in debugfs(run_tool, ext4, "stat /null")
    assert "01:03" in debugfs(run_tool, ext4, "stat /null").replace("Device major/minor number: ", "")
    assert "Type: FIFO" in debugfs(run_tool, ext4, "stat /fifo")
    assert run_tool("debugfs", "-R", "cat /etc/big", f"{ext4}?offset={MIB}") == bytes(range(256)) * 8192
    assert debugfs(run_tool, ext4, "ls -p /etc/deep/many").count("a-rather-long-name") == 300
    assert "Blockcount: 0" in debugfs(run_tool, ext4, "stat /etc/sparse"), "holes stay holes"


@pytest.mark.root
def test_no_time_in_ext4_is_that_of_the_build(ext4: Path, run_tool: Tool) -> None:
    for path in ("/etc", "/etc/file", "/etc/link", "/null", "/etc/deep/many/a-rather-long-name-0000"):
        lines = debugfs(run_tool, ext4, f"stat {path}").splitlines()
        times = [line for line in lines if line.lstrip().startswith(("ctime:", "atime:", "mtime:", "crtime:"))]
        assert len(times) == 4
        assert all(f"0x{EPOCH - 10:08x}:00000000" in line for line in times), (path, times)
    this_year = time.strftime("%Y", time.gmtime())
    assert this_year not in run_tool("dumpe2fs", "-h", f"{ext4}?offset={MIB}").decode().partition("Journal")[0]


@pytest.mark.root
def test_ext4_leaves_the_rest_of_the_disk_alone(ext4: Path) -> None:
    data = ext4.read_bytes()
    assert data[:MIB] == bytes(MIB)
    assert data[33 * MIB :] == bytes(MIB)
    assert len(data) == 34 * MIB


def test_a_tree_that_does_not_fit_is_an_error(stage: Stage, tree: Path, tmp_path: Path, needs: Any) -> None:
    needs("mke2fs")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/big").write_bytes(os.urandom(6 * MIB))
    disk(tree, 8 * MIB)
    options = {"filename": "disk", "start": 0, "size": 4 * MIB, "uuid": UUID, "hash-seed": UUID}
    stage.refused("org.kiln.ext4", options, inputs={"tree": {"path": f"{tmp_path}/in"}})


def test_efi_system_partition_is_the_same_twice(
    stage: Stage, tree: Path, tmp_path: Path, run_tool: Tool, needs: Any
) -> None:
    needs("mkfs.fat", "mmd", "mcopy", "mdir", "mtype", "fsck.fat")
    boot = {}
    for number, name in enumerate(("SHIM", "GRUB", "MOK")):
        path = tmp_path / name
        path.write_bytes(name.encode() * 1000)
        os.utime(path, (EPOCH - 1000 * number,) * 2)
        boot[name] = [str(path)]
    options = {
        "filename": "disk",
        "start": MIB,
        "size": 40 * MIB,
        "volid": "0123abcd",
        "label": "ESP",
        "vendor": "debian",
        "root-uuid": UUID,
        "prefix": "/boot/grub",
    }

    def make() -> Path:
        path = disk(tree, 42 * MIB)
        stage.ok("org.kiln.grub-efi", options, constants=boot)
        return path

    path = twice(make)
    at = f"{path}@@{MIB}"
    assert run_tool("mtype", "-i", at, "::/EFI/BOOT/BOOTX64.EFI") == b"SHIM" * 1000
    assert run_tool("mtype", "-i", at, "::/EFI/BOOT/grubx64.efi") == b"GRUB" * 1000
    assert run_tool("mtype", "-i", at, "::/EFI/BOOT/mmx64.efi") == b"MOK" * 1000
    assert f"--set=root {UUID}\n" in run_tool("mtype", "-i", at, "::/EFI/debian/grub.cfg").decode()
    listing = run_tool("mdir", "-/", "-i", at, "::/").decode()
    assert "0123-ABCD" in listing
    assert "Volume in drive : is ESP" in listing
    assert time.strftime("%Y-%m-%d", time.gmtime()) not in listing
    assert "2023-11-14" in listing
    (tmp_path / "esp").write_bytes(path.read_bytes()[MIB : 41 * MIB])
    assert b"FAT32" in (tmp_path / "esp").read_bytes()[:512]
    run_tool("fsck.fat", "-n", tmp_path / "esp")
    data = path.read_bytes()
    assert data[:MIB] == bytes(MIB)
    assert data[41 * MIB :] == bytes(MIB)


def test_grub_for_bios_is_put_where_the_firmware_looks(stage: Stage, tree: Path, tmp_path: Path) -> None:
    core = bytes([7]) * 1300
    (tmp_path / "core").write_bytes(core)
    copy = f'for last; do [ "$flag" = --output ] && cat {tmp_path}/core >"$last"; flag=$last; done'
    stage.fakes.add("grub-mkimage", does=copy)
    (tmp_path / "i386-pc").mkdir()
    (tmp_path / "i386-pc/boot.img").write_bytes(bytes([1]) * 512)
    path = tree / "disk"
    path.write_bytes(bytes([9]) * MIB)
    options = {
        "filename": "disk",
        "platform": "i386-pc",
        "location": 100,
        "core": {"type": "mkimage", "partlabel": "gpt", "filesystem": "ext4"},
        "prefix": {"type": "path", "path": "/boot/grub"},
    }
    stage.ok("org.osbuild.grub2.inst", options, constants={"MODULE_DIRECTORY": f"{tmp_path}/"})
    data = path.read_bytes()
    assert len(data) == MIB
    # boot.img: its code, except the partition table; the sector of core.img; no jump at the check of the drive.
    assert struct.unpack_from("<Q", data, 0x5C) == (100,)
    assert data[0x66:0x68] == b"\x90\x90"
    assert set(data[:0x5C] + data[0x64:0x66] + data[0x68:440]) == {1}
    assert set(data[440 : 100 * 512]) == {9}, "nothing between the MBR's code and core.img"
    # core.img: padded to sectors; the last entry of its first sector says where the second one is.
    written = data[100 * 512 : 103 * 512]
    assert struct.unpack_from("<QHH", written, 0x1F4) == (101, 2, 0x820)
    assert written[:0x1F4] == core[:0x1F4]
    assert written[512:] == core[512:].ljust(1024, b"\0")
    assert set(data[103 * 512 :]) == {9}


@pytest.mark.root
def test_squashfs_is_the_same_twice_and_holds_the_tree(
    stage: Stage, tree: Path, tmp_path: Path, run_tool: Tool, needs: Any
) -> None:
    needs("mksquashfs", "unsquashfs")
    fill(tmp_path / "source")
    options = {
        "filename": "x.squashfs",
        "compression": {"method": "zstd", "options": {"level": 1}},
        "exclude_paths": ["etc/deep/.*"],
    }

    def make() -> Path:
        shutil.rmtree(tmp_path / "in", ignore_errors=True)
        subprocess.run(["cp", "-a", tmp_path / "source", tmp_path / "in"], check=True)
        stage.ok("org.osbuild.squashfs", options, inputs={"tree": {"path": f"{tmp_path}/in"}})
        return tree / "x.squashfs"

    path = twice(make)
    assert run_tool("unsquashfs", "-fstime", path).decode().split()[-1] == str(EPOCH)
    run_tool("unsquashfs", "-no-progress", "-d", tmp_path / "out", path)
    out = tmp_path / "out"
    assert (out / "etc/file").read_text(encoding="ascii") == "content"
    assert os.getxattr(out / "etc/file", "user.kiln") == b"value"
    assert (out / "etc/file").stat().st_ino == (out / "etc/hard").stat().st_ino
    assert stat.S_IMODE((out / "etc/setuid").stat().st_mode) == 0o4750
    assert (out / "null").stat().st_rdev == os.makedev(1, 3)
    assert (out / "etc/file").stat().st_mtime == EPOCH - 10
    assert not list((out / "etc/deep").iterdir())


def test_qcow2_is_the_same_twice_and_holds_the_disk(
    stage: Stage, tree: Path, tmp_path: Path, run_tool: Tool, needs: Any
) -> None:
    needs("qemu-img")
    (tmp_path / "in").mkdir()
    raw = tmp_path / "in/disk.raw"
    with raw.open("wb") as file:
        file.write(os.urandom(3 * MIB))
        file.truncate(64 * MIB)
        file.seek(40 * MIB)
        file.write(b"far")
    inputs = {"image": {"path": f"{tmp_path}/in", "data": {"files": {"disk.raw": {}}}}}

    def make() -> Path:
        options = {"filename": "x.qcow2", "format": {"type": "qcow2", "compat": "1.1", "compression": True}}
        stage.ok("org.osbuild.qemu", options, inputs=inputs)
        return tree / "x.qcow2"

    path = twice(make)
    run_tool("qemu-img", "check", path)
    run_tool("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, path)
    assert json.loads(run_tool("qemu-img", "info", "--output=json", path))["format"] == "qcow2"
    assert path.stat().st_size < 8 * MIB
