"""Stages that work on devices and images; a regular file stands for the device."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage_tools import device_file, files_input, put, tool, tree_input

Stage = Any
EPOCH = 1_700_000_000
UUID = "5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a11"
OTHER = "0d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a22"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
MIB = 1 << 20
PARTITIONS = [
    {"name": "boot x", "start": 2048, "size": 2048, "type": LINUX, "uuid": OTHER, "attrs": [63, 0], "bootable": False},
    {"name": "root", "start": 4096, "size": 2048, "type": LINUX, "uuid": UUID, "bootable": True},
]


def device(path: Path) -> dict[str, Any]:
    return {"device": {"path": str(path)}}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# stage, options, program, its arguments before the device, and those behind it
CALLS: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("sgdisk", {"uuid": UUID}, ["sgdisk", "-Z"], ["-g", "-U", UUID]),
    (
        "sgdisk",
        {"uuid": UUID, "quote_partition_name": False, "partitions": PARTITIONS[:1]},
        ["sgdisk", "-Z"],
        [
            *("-g", "-U", UUID, "-n", "1:2048:+2048", "-c", "1:boot x", "-u", f"1:{OTHER}", "-t", f"1:{LINUX}"),
            *("-A", "1:set:0", "-A", "1:set:63"),
        ],
    ),
    (
        "sgdisk",
        {"uuid": UUID, "partitions": [{"name": "a", "bootable": True, "partnum": 7}]},
        ["sgdisk", "-Z"],
        ["-g", "-U", UUID, "-n", "7:0:0", "-c", '7:"a"', "-A", "7:set:2"],
    ),
    (
        "parted",
        {
            "label": "gpt",
            "partitions": [{"name": "a b", "start": 34, "size": 10, "bootable": True, "type": "bios_grub"}],
        },
        ["parted", "-a", "none", "-s"],
        [
            *("--", "unit", "s", "mklabel", "gpt", "mkpart", '"a b"', "34", "43"),
            *("set", "1", "boot", "on", "set", "1", "bios_grub", "on"),
        ],
    ),
    (
        "mkfs.ext4",
        {"uuid": UUID, "label": "l", "lazy_init": False, "verity": True, "orphan_file": False},
        [
            *("mkfs.ext4", "-F", "-U", UUID, "-L", "l"),
            *("-E", f"hash_seed={UUID},lazy_itable_init=0,lazy_journal_init=0", "-O", "^orphan_file,verity"),
        ],
        [],
    ),
    (
        "mkfs.xfs",
        {"uuid": UUID, "label": "l", "agcount": 3},
        ["mkfs.xfs", "-m", f"uuid={UUID}", "-L", "l", "-d", "agcount=3"],
        [],
    ),
    (
        "mkfs.btrfs",
        {"uuid": UUID, "label": "l", "metadata": "dup"},
        ["mkfs.btrfs", "-U", UUID, "-L", "l", "--metadata", "dup"],
        [],
    ),
    (
        "mkfs.fat",
        {"volid": "7B7795E7", "label": "ESP", "fat-size": 12, "geometry": {"heads": 2, "sectors-per-track": 9}},
        ["mkfs.fat", "-I", "--invariant", "-i", "7B7795E7", "-n", "ESP", "-F", "12", "-g", "2/9"],
        [],
    ),
    ("mkswap", {"uuid": UUID, "label": "s"}, ["mkswap", "-U", UUID, "-L", "s"], []),
    (
        "luks2.format",
        {
            "passphrase": "geheim",
            "uuid": UUID,
            "label": "l",
            "sector-size": 512,
            "pbkdf": {"method": "argon2id", "iterations": 4, "memory": 32, "parallelism": 1},
        },
        [
            *("cryptsetup", "--batch-mode", "luksFormat", "--type", "luks2", "--key-file", "-", "--uuid", UUID),
            *("--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--pbkdf-parallel", "1"),
            *("--label", "l", "--sector-size", "512"),
        ],
        [],
    ),
    ("luks2.remove-key", {"passphrase": "geheim"}, ["cryptsetup", "luksRemoveKey", "--key-file", "-"], []),
]


@pytest.mark.parametrize(
    ("name", "options", "before", "after"), CALLS, ids=[f"{call[0]}-{i}" for i, call in enumerate(CALLS)]
)
def test_what_the_program_is_told(
    stage: Stage, name: str, options: dict[str, Any], before: list[str], after: list[str]
) -> None:
    stage.fakes.add(before[0])
    # A relative name is below the directory of devices.
    stage.ok(f"org.osbuild.{name}", options, devices=device(Path("loop7")))
    assert stage.fakes.calls == [[*before, "/dev/loop7", *after]]
    if name.startswith("luks2"):
        assert stage.fakes.stdin("cryptsetup") == "geheim"


def test_sfdisk_reads_a_script(stage: Stage) -> None:
    stage.fakes.add("sfdisk")
    options = {"label": "gpt", "uuid": UUID, "partitions": [*PARTITIONS, {"partnum": 9, "size": 5}]}
    stage.ok("org.osbuild.sfdisk", options, devices=device(Path("/dev/x")))
    assert stage.fakes.calls == [["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "/dev/x"]]
    assert stage.fakes.stdin("sfdisk") == (
        f"label: gpt\nlabel-id: {UUID}\n"
        f'disk1 : start=2048, size=2048, type={LINUX}, uuid={OTHER}, name="boot x", attrs="RequiredPartition,GUID:63"\n'
        f'disk2 : start=4096, size=2048, type={LINUX}, uuid={UUID}, name="root", bootable\n'
        "disk9 : size=5\n"
    )
    stage.refused(
        "org.osbuild.sfdisk",
        {"label": "gpt", "uuid": UUID, "partitions": [{"attrs": [5]}]},
        devices=device(Path("/dev/x")),
    )


def table(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(tool("sfdisk", "--json", path))["partitiontable"]
    return result


def test_sfdisk_writes_the_same_table_each_time(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("sfdisk")
    digests = set()
    for number in (1, 2):
        path = tmp_path / f"disk{number}"
        entries = [{**PARTITIONS[0], "partnum": 3}, {**PARTITIONS[1], "bootable": False}]
        options = {"label": "gpt", "uuid": UUID, "partitions": entries}
        stage.ok("org.osbuild.sfdisk", options, devices={"device": device_file(path, 8 * MIB)})
        digests.add(digest(path))
    assert len(digests) == 1
    found = table(path)
    assert (found["label"], found["id"]) == ("gpt", UUID.upper())
    by_name = {entry["name"]: entry for entry in found["partitions"]}
    assert by_name["boot x"]["node"].endswith("p3")
    assert by_name["boot x"]["attrs"] == "RequiredPartition GUID:63"
    assert (by_name["root"]["start"], by_name["root"]["size"]) == (4096, 2048)


def test_sfdisk_writes_an_mbr(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("sfdisk")
    entries = [{"start": 2048, "size": 2048, "type": "83", "bootable": True}]
    options = {"label": "mbr", "uuid": "0x14fc63d2", "partitions": entries}
    stage.ok("org.osbuild.sfdisk", options, devices={"device": device_file(tmp_path / "disk", 4 * MIB)})
    found = table(tmp_path / "disk")
    assert (found["label"], found["id"], found["partitions"][0]["bootable"]) == ("dos", "0x14fc63d2", True)


def test_sgdisk_writes_a_table(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("sgdisk", "sfdisk")
    options = {"uuid": UUID, "quote_partition_name": False, "partitions": PARTITIONS}
    stage.ok("org.osbuild.sgdisk", options, devices={"device": device_file(tmp_path / "disk", 8 * MIB)})
    first, second = table(tmp_path / "disk")["partitions"]
    assert (first["name"], first["uuid"], first["attrs"]) == ("boot x", OTHER.upper(), "RequiredPartition GUID:63")
    assert (second["start"], second["size"], second["attrs"]) == (4096, 2048, "LegacyBIOSBootable")


def test_parted_writes_a_table(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("parted", "sfdisk")
    entries = [{"name": "a b", "start": 2048, "size": 2048, "type": "esp"}]
    options = {"label": "gpt", "partitions": entries}
    stage.ok("org.osbuild.parted", options, devices={"device": device_file(tmp_path / "disk", 8 * MIB)})
    (found,) = table(tmp_path / "disk")["partitions"]
    assert (found["name"], found["start"], found["size"]) == ("a b", 2048, 2048)
    assert found["type"] == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"


def identified(path: Path) -> dict[str, str]:
    lines = tool("blkid", "-p", "-o", "export", path).decode().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.mark.parametrize(
    ("name", "size_bytes", "options", "kind"),
    [
        ("mkfs.ext4", 16 * MIB, {"uuid": UUID, "label": "l", "lazy_init": True}, "ext4"),
        ("mkfs.xfs", 320 * MIB, {"uuid": UUID, "label": "l"}, "xfs"),
        ("mkfs.btrfs", 128 * MIB, {"uuid": UUID, "label": "l", "metadata": "single"}, "btrfs"),
        ("mkfs.fat", 4 * MIB, {"volid": "7B7795E7", "label": "L", "fat-size": 12}, "vfat"),
        ("mkswap", MIB, {"uuid": UUID, "label": "l"}, "swap"),
    ],
)
def test_file_systems_are_made(
    stage: Stage,
    tmp_path: Path,
    needs: Callable[..., None],
    name: str,
    size_bytes: int,
    options: dict[str, Any],
    kind: str,
) -> None:
    needs(name, "blkid")
    digests = set()
    for number in (1, 2):
        path = tmp_path / f"disk{number}"
        stage.ok(f"org.osbuild.{name}", options, devices={"device": device_file(path, size_bytes)})
        if name in ("mkfs.ext4", "mkfs.fat", "mkswap"):
            digests.add(digest(path))
    found = identified(path)
    assert found["TYPE"] == kind
    assert found["LABEL"].lower() == "l"
    assert found["UUID"] == (UUID if "uuid" in options else "7B77-95E7")
    assert len(digests) <= 1


def test_verity_is_the_same_for_the_same_stage(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("veritysetup")
    results = set()
    for number in (1, 2):
        data, hashes = tmp_path / f"data{number}", tmp_path / f"hash{number}"
        data.write_bytes(b"x" * MIB)
        devices = {"data_device": {"path": str(data)}, "hash_device": device_file(hashes, MIB)}
        stage.ok("org.osbuild.dmverity", {"root_hash_file": "/root.hash", "blocksize": 4096}, devices=devices)
        results.add((stage.read("root.hash"), digest(hashes)))
    ((root_hash, _),) = results
    tool("veritysetup", "verify", data, hashes, root_hash)
    data.write_bytes(b"x" * (MIB - 1) + b"y")
    assert subprocess.run(
        ["veritysetup", "verify", data, hashes, root_hash], check=False, capture_output=True
    ).returncode


def test_veritysetup_is_told_salt_and_uuid(stage: Stage) -> None:
    stage.fakes.add("veritysetup")
    devices = {"data_device": {"path": "a"}, "hash_device": {"path": "b"}}
    stage.ok("org.osbuild.dmverity", {"root_hash_file": "h"}, devices=devices)
    keep = ["--root-hash-file", str(stage.tree / "h")]
    names = ["--salt", "0" * 64, "--uuid", "00000000-0000-0000-0000-000000000000"]
    assert stage.fakes.calls == [
        ["veritysetup", "format", "/dev/a", "/dev/b", "--data-block-size", "512", *names, *keep],
        ["veritysetup", "verify", "/dev/a", "/dev/b", *keep],
    ]


def test_luks_containers_open_with_their_passphrase(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("cryptsetup")
    path = tmp_path / "disk"
    options = {"passphrase": "geheim", "uuid": UUID, "label": "l", "pbkdf": {"method": "pbkdf2", "iterations": 1000}}
    done = stage("org.osbuild.luks2.format", options, devices={"device": device_file(path, 32 * MIB)})
    if "device-mapper" in done.stdout.lower():
        pytest.skip("this machine has no device mapper")
    assert done.returncode == 0, done.stdout
    assert tool("cryptsetup", "luksUUID", path).decode().strip() == UUID
    second = tmp_path / "second"
    second.write_text("anders")
    argv = ["luksAddKey", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-"]
    tool("cryptsetup", *argv, path, second, stdin=b"geheim")
    stage.ok("org.osbuild.luks2.remove-key", {"passphrase": "geheim"}, devices=device(path))
    tool("cryptsetup", "open", "--test-passphrase", "--key-file", "-", path, stdin=b"anders")
    assert "ended with status" in stage.refused(
        "org.osbuild.luks2.remove-key", {"passphrase": "geheim"}, devices=device(path)
    )


def erofs_sample(root: Path) -> dict[str, Any]:
    put(root, "a/b", "text" * 5000)
    put(root, "skip.o", "x")
    for path in (root / "a/b", root / "a", root / "skip.o", root):
        os.utime(path, (EPOCH - 7, EPOCH - 7))
    return {"tree": tree_input(root)}


def test_erofs_is_told_its_uuid_and_time(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("mkfs.erofs")
    options = {
        "filename": "x.erofs",
        "compression": {"method": "lz4hc", "level": 9},
        "options": ["dedupe", "fragments"],
        "exclude_paths": ["\\.o$"],
        "cluster_size": 65536,
    }
    stage.ok("org.osbuild.erofs", options, inputs={"tree": tree_input(tmp_path)})
    assert stage.fakes.calls == [
        [
            *("mkfs.erofs", "--quiet", "-U", "00000000-0000-0000-0000-000000000000", f"-T{EPOCH}", "--preserve-mtime"),
            *("-zlz4hc,9", "-Ededupe,fragments", "-C65536", "--exclude-regex=\\.o$"),
            *(str(stage.tree / "x.erofs"), str(tmp_path)),
        ]
    ]


def test_erofs_of_equal_trees_is_equal(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("mkfs.erofs", "dump.erofs")
    digests = set()
    for number in (1, 2):
        inputs = erofs_sample(tmp_path / f"s{number}")
        stage.ok("org.osbuild.erofs", {"filename": "x", "compression": {"method": "lz4"}}, inputs=inputs)
        digests.add(digest(stage.tree / "x"))
    assert len(digests) == 1
    assert b"2023-11-14" in tool("dump.erofs", "--path=/a/b", stage.tree / "x")


def test_a_file_is_written_to_the_device_and_the_rest_stays(stage: Stage, tmp_path: Path) -> None:
    source = put(tmp_path, "in/f", "new")
    target = put(tmp_path, "disk", "old content")
    inputs = {"f": files_input(source)}
    stage.ok("org.osbuild.write-device", {"from": "input://f/f"}, inputs=inputs, devices=device(target))
    assert target.read_text() == "new content"
    small = put(tmp_path, "small", "ab")
    said = stage.refused("org.osbuild.write-device", {"from": "input://f/f"}, inputs=inputs, devices=device(small))
    assert "the file has 3 bytes, the device only 2" in said
    assert small.read_text() == "ab"


def test_xorrisofs_is_told_how_to_boot(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("xorrisofs")
    common = {"filename": "x.iso", "volid": "K", "boot": {"image": "b.img", "catalog": "b.cat"}, "efi": "e.img"}
    stage.ok(
        "org.osbuild.xorrisofs", {**common, "sysid": "L", "isohybridmbr": "/m"}, inputs={"tree": tree_input(tmp_path)}
    )
    stage.ok(
        "org.osbuild.xorrisofs", {**common, "isolevel": 3, "grub2mbr": "/m"}, inputs={"tree": tree_input(tmp_path)}
    )
    out = ["-o", str(stage.tree / "x.iso"), str(tmp_path)]
    el_torito = ["-b", "b.img", "-c", "b.cat", "-boot-load-size", "4", "-boot-info-table", "-no-emul-boot"]
    hybrid, grub = stage.fakes.calls
    assert hybrid == [
        *("xorrisofs", "-quiet", "-V", "K", "-sysid", "L", "-isohybrid-mbr", "/m", *el_torito, "-rock", "-joliet"),
        *("-eltorito-alt-boot", "-e", "e.img", "-no-emul-boot", "-isohybrid-gpt-basdat", *out),
    ]
    assert grub == [
        *("xorrisofs", "-quiet", "-iso-level", "3", "-V", "K", "--grub2-mbr", "/m", "-partition_offset", "16"),
        *("-iso_mbr_part_type", "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "-appended_part_as_gpt"),
        *("-append_partition", "2", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", str(tmp_path / "e.img")),
        *(*el_torito, "--grub2-boot-info", "-rock", "-joliet", "-eltorito-alt-boot"),
        *("-e", "--interval:appended_partition_2:all::", "-no-emul-boot", *out),
    ]


def test_an_iso_of_equal_trees_is_equal(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("xorrisofs", "xorriso")
    digests = set()
    for number in (1, 2):
        inputs = erofs_sample(tmp_path / f"s{number}")
        put(tmp_path / f"s{number}", "efi.img", "e" * 4096)
        os.utime(tmp_path / f"s{number}/efi.img", (EPOCH - 7, EPOCH - 7))
        os.utime(tmp_path / f"s{number}", (EPOCH - 7, EPOCH - 7))
        stage.ok("org.osbuild.xorrisofs", {"filename": "x.iso", "volid": "KILN", "efi": "efi.img"}, inputs=inputs)
        digests.add(digest(stage.tree / "x.iso"))
    assert len(digests) == 1
    assert identified(stage.tree / "x.iso")["LABEL"] == "KILN"
    found = tool("xorriso", "-indev", stage.tree / "x.iso", "-find", "/").decode()
    assert "'/a/b'" in found


IMAGE_PARTITIONS = [
    {"name": "one", "start": MIB, "size": MIB, "type": LINUX, "uuid": OTHER, "content": "input://parts/one"},
    {"name": "two", "start": 2 * MIB, "size": MIB, "type": LINUX, "uuid": UUID, "attrs": [2]},
]


def image(**changes: Any) -> dict[str, Any]:
    return {"filename": "disk", "size": 8 * MIB, "uuid": UUID, "partitions": IMAGE_PARTITIONS, **changes}


def test_an_image_holds_its_partitions(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    needs("sfdisk")
    part = tmp_path / "in/one"
    part.parent.mkdir()
    with part.open("wb") as file:
        file.write(b"begin")
        file.seek(MIB - 3)
        file.write(b"end")
    stage.ok("org.kiln.image", image(), inputs={"parts": files_input(part)})
    disk = stage.tree / "disk"
    assert disk.stat().st_size == 8 * MIB
    assert disk.stat().st_blocks * 512 < MIB
    assert disk.read_bytes()[MIB : 2 * MIB] == part.read_bytes()
    first, second = table(disk)["partitions"]
    assert (first["name"], first["start"], first["size"]) == ("one", 2048, 2048)
    assert second["attrs"] == "LegacyBIOSBootable"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"size": 3 * MIB}, "past the usable end"),
        ({"partitions": IMAGE_PARTITIONS[::-1]}, "begins inside the one before it"),
        ({"partitions": [{**IMAGE_PARTITIONS[0], "size": 512}]}, "is larger than its partition"),
    ],
)
def test_an_image_that_cannot_be_is_refused(
    stage: Stage, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    stage.fakes.add("sfdisk")
    inputs = {"parts": files_input(put(tmp_path, "in/one", "x" * 600))}
    assert problem in stage.refused("org.kiln.image", image(**changes), inputs=inputs)
