"""Images that differ are taken apart, down to the partition and the file."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from kiln.artifact.contents import file_system
from kiln.artifact.differences import explain_disk, explain_squashfs
from kiln.artifact.gpt import read_gpt

LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
PART_BYTES = 8 * 1024 * 1024
START_SECTOR = 2048


def tree(directory: Path, **files: bytes) -> Path:
    directory.mkdir(parents=True)
    for name, data in {"same": b"same\n", **files}.items():
        (directory / name).write_bytes(data)
    return directory


def squashfs(source: Path, image: Path) -> Path:
    fixed = ["-mkfs-time", "0", "-all-time", "0", "-all-root", "-quiet", "-no-progress"]
    subprocess.run(["mksquashfs", str(source), str(image), *fixed], check=True, capture_output=True)
    return image


def ext4(source: Path, image: Path, identity: str = "1b671a64-40d5-491e-99b0-da01ff1f3341") -> Path:
    image.write_bytes(b"")
    size = f"{PART_BYTES // 1024}k"
    argv = [
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-U",
        identity,
        "-E",
        f"hash_seed={identity}",
        "-d",
        str(source),
        str(image),
        size,
    ]
    subprocess.run(
        argv,
        check=True,
        capture_output=True,
        env={"E2FSPROGS_FAKE_TIME": "1700000000", "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
    )
    return image


def disk(image: Path, part: Path, disk_id: int = 1) -> Path:
    """Write a GPT disk with one partition, by hand: no tool chooses ids for it."""
    data = part.read_bytes()
    start, end = START_SECTOR, START_SECTOR + len(data) // 512 - 1
    header = struct.pack(
        "<8sIIIIQQQQ16sQIII",
        b"EFI PART",
        0x10000,
        92,
        0,
        0,
        1,
        end + 34,
        34,
        end,
        UUID(int=disk_id).bytes_le,
        2,
        128,
        128,
        0,
    )
    entry = struct.pack(
        "<16s16sQQQ72s", LINUX.bytes_le, UUID(int=7).bytes_le, start, end, 0, "root".encode("utf-16-le")
    )
    content = bytearray((end + 35) * 512)
    content[512 : 512 + len(header)] = header
    content[1024 : 1024 + len(entry)] = entry
    content[start * 512 : (end + 1) * 512] = data
    raw = image.with_suffix(".raw")
    raw.write_bytes(content)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(image)], check=True, capture_output=True)
    raw.unlink()
    return image


def test_a_partition_table_is_read(tmp_path: Path) -> None:
    part = ext4(tree(tmp_path / "a"), tmp_path / "a.img")
    image = disk(tmp_path / "a.qcow2", part)
    raw = tmp_path / "back.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], check=True)
    table = read_gpt(raw)
    assert table is not None
    (found,) = table.partitions
    assert (found.name, found.type, found.start, found.size_bytes) == ("root", LINUX, START_SECTOR * 512, PART_BYTES)
    assert file_system(part) == "ext4"


@pytest.mark.parametrize("data", [b"", b"x" * 600, b"\0" * 512 + b"EFI PART" + b"\xff" * 600])
def test_what_is_no_partition_table_is_none(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    assert read_gpt(tmp_path / "x") is None


def test_files_of_a_squashfs_are_named_with_their_causes(tmp_path: Path) -> None:
    before = squashfs(tree(tmp_path / "a", stamp=b"2026-01-01 00:00:00\n", gone=b"x"), tmp_path / "a.squashfs")
    after = squashfs(tree(tmp_path / "b", stamp=b"2026-02-02 02:02:02\n", new=b"x"), tmp_path / "b.squashfs")
    (tmp_path / "work").mkdir()
    found = explain_squashfs("box.squashfs", before, after, tmp_path / "work")
    assert [(item.path, item.kind, item.cause) for item in found] == [
        ("/gone", "missing", "unknown"),
        ("/new", "added", "unknown"),
        ("/stamp", "changed", "time"),
    ]
    assert list((tmp_path / "work").iterdir()) == []


def test_equal_files_in_other_bytes_are_metadata(tmp_path: Path) -> None:
    source = tree(tmp_path / "a")
    before = squashfs(source, tmp_path / "a.squashfs")
    (source / "same").chmod(0o600)
    after = squashfs(source, tmp_path / "b.squashfs")
    (tmp_path / "work").mkdir()
    (found,) = explain_squashfs("box.squashfs", before, after, tmp_path / "work")
    assert found.cause == "metadata"


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img makes the disks")
def test_a_disk_is_taken_apart_to_its_files(tmp_path: Path) -> None:
    before = ext4(tree(tmp_path / "a", order=b"b\na\n"), tmp_path / "a.img")
    after = ext4(tree(tmp_path / "b", order=b"a\nb\n"), tmp_path / "b.img")
    (tmp_path / "work").mkdir()
    found = explain_disk(
        "box.qcow2", disk(tmp_path / "a.qcow2", before), disk(tmp_path / "b.qcow2", after, 2), tmp_path / "work"
    )
    assert [(item.path, item.cause) for item in found] == [
        ("partition table", "random"),
        ("partition 1 (root): /order", "order"),
    ]


def test_a_file_system_with_equal_files_names_the_field_that_differs(tmp_path: Path) -> None:
    source = tree(tmp_path / "a")
    before = ext4(source, tmp_path / "a.img")
    after = ext4(source, tmp_path / "b.img", "9b671a64-40d5-491e-99b0-da01ff1f3341")
    (tmp_path / "work").mkdir()
    (found,) = explain_disk(
        "box.qcow2", disk(tmp_path / "a.qcow2", before), disk(tmp_path / "b.qcow2", after), tmp_path / "work"
    )
    assert (found.path, found.cause) == ("partition 1 (root)", "random")
    assert "UUID" in found.detail
