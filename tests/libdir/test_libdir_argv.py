"""Exactly which programs stages start, with which arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

Stage = Any
UUID = "5d0e1c52-6a5f-5d1b-9c0e-1f0f6b1b7a11"
MIB = 1024 * 1024


def test_chmod(stage: Stage, tree: Path) -> None:
    stage.fakes.add("chmod")
    stage.ok("org.osbuild.chmod", {"items": {"/a": {"mode": "0600"}, "/b": {"mode": "u+x", "recursive": True}}})
    assert stage.fakes.calls == [
        ["chmod", "--", "0600", f"{tree}/a"],
        ["chmod", "--recursive", "--", "u+x", f"{tree}/b"],
    ]


def test_chown(stage: Stage, tree: Path) -> None:
    stage.fakes.add("chown")
    (tree / "etc").mkdir()
    (tree / "etc/passwd").write_text("daemon:x:7:8::/:/x\n", encoding="ascii")
    items = {"/a": {"user": "daemon", "group": 9}, "/b": {"group": "9", "recursive": True}}
    stage.ok("org.osbuild.chown", {"items": items})
    assert stage.fakes.calls == [
        ["chown", "--no-dereference", "--", "7:9", f"{tree}/a"],
        ["chown", "--no-dereference", "--recursive", "--", ":9", f"{tree}/b"],
    ]


def test_copy(stage: Stage, tree: Path, tmp_path: Path) -> None:
    stage.fakes.add("cp")
    (tmp_path / "in/d").mkdir(parents=True)
    (tmp_path / "in/f").touch()
    (tree / "t").touch()
    paths = [
        {"from": "input://files/f", "to": "tree:///f", "remove_destination": True},
        {"from": "input://files/d/", "to": "tree:///d"},
        {"from": "tree:///t", "to": "tree:///u"},
    ]
    stage.ok("org.osbuild.copy", {"paths": paths}, inputs={"files": {"path": f"{tmp_path}/in"}})
    common = ["--reflink=auto", "--remove-destination", "--"]
    assert stage.fakes.calls == [
        ["cp", "--preserve=mode", *common, f"{tmp_path}/in/f", f"{tree}/f"],
        ["cp", "--archive", *common, f"{tmp_path}/in/d/.", f"{tree}/d"],
        ["cp", "--archive", *common, f"{tree}/t", f"{tree}/u"],
    ]


def test_gpt(stage: Stage, tree: Path) -> None:
    stage.fakes.add("sfdisk")
    with (tree / "disk").open("wb") as file:
        file.truncate(8 * MIB)
    partitions = [
        {"name": "bios", "start": MIB, "size": MIB, "type": "T1", "uuid": "U1", "legacy-boot": True},
        {"name": "the root", "start": 2 * MIB, "size": MIB, "type": "T2", "uuid": "U2"},
    ]
    stage.ok("org.kiln.gpt", {"filename": "disk", "uuid": UUID, "partitions": partitions})
    assert stage.fakes.calls == [["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", f"{tree}/disk"]]
    assert stage.fakes.stdin("sfdisk").splitlines() == [
        "label: gpt",
        f"label-id: {UUID}",
        'start=2048, size=2048, type=T1, uuid=U1, name="bios", attrs="LegacyBIOSBootable"',
        'start=4096, size=2048, type=T2, uuid=U2, name="the root"',
    ]


def test_ext4(stage: Stage, tree: Path) -> None:
    stage.fakes.add("mke2fs", does='echo "$E2FSPROGS_FAKE_TIME $LC_ALL" >"$0.time"')
    options = {"filename": "disk", "start": MIB, "size": 8 * MIB, "uuid": UUID, "hash-seed": UUID, "label": "root"}
    stage.ok("org.kiln.ext4", options, inputs={"tree": {"path": "/in"}}, epoch=None)
    extended = f"offset={MIB},hash_seed={UUID},root_owner=0:0,nodiscard,lazy_itable_init=1,lazy_journal_init=1"
    words = f"mke2fs -q -F -t ext4 -b 4096 -I 256 -m 1 -L root -U {UUID} -E {extended} -d /in {tree}/disk 2048"
    assert stage.fakes.calls == [words.split()]
    assert (stage.fakes.directory / "mke2fs.time").read_text(encoding="ascii") == " C.UTF-8\n"


def test_a_failing_program_fails_the_stage(stage: Stage, tree: Path) -> None:
    stage.fakes.add("mke2fs", "mksquashfs", "qemu-img", "sfdisk", "chmod", does="exit 3")
    (tree / "disk").write_bytes(bytes(MIB))
    options = {"filename": "disk", "start": 0, "size": 8 * MIB, "uuid": UUID, "hash-seed": UUID}
    inputs = {"tree": {"path": "/in"}, "image": {"path": "/in", "data": {"files": {"disk": {}}}}}
    partition = {"name": "a", "start": 0, "size": 512, "type": UUID, "uuid": UUID}
    for name, values in (
        ("org.kiln.ext4", options),
        ("org.osbuild.squashfs", {"filename": "x", "compression": {"method": "xz"}}),
        ("org.osbuild.qemu", {"filename": "x", "format": {"type": "raw"}}),
        ("org.kiln.gpt", {"filename": "disk", "uuid": UUID, "partitions": [partition]}),
        ("org.osbuild.chmod", {"items": {"/a": {"mode": "0600"}}}),
    ):
        assert stage(name, values, inputs=inputs).returncode != 0, name


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ({"compression": {"method": "zstd", "options": {"level": 6}}}, ["-comp", "zstd", "-Xcompression-level", "6"]),
        (
            {"compression": {"method": "xz", "options": {"bcj": "x86"}}, "block-size": 65536},
            ["-comp", "xz", "-Xbcj", "x86", "-b", "65536"],
        ),
        (
            {"compression": {"method": "lz4"}, "exclude_paths": ["boot/.*", "tmp"]},
            ["-comp", "lz4", "-regex", "-e", "boot/.*", "tmp"],
        ),
        ({}, ["-comp", "gzip"]),
    ],
)
def test_squashfs(stage: Stage, tree: Path, options: dict[str, Any], arguments: list[str]) -> None:
    stage.fakes.add("mksquashfs")
    stage.ok("org.osbuild.squashfs", {"filename": "x.squashfs", **options}, inputs={"tree": {"path": "/in"}})
    begin = ["mksquashfs", "/in", f"{tree}/x.squashfs", "-noappend", "-no-progress", "-xattrs", "-no-exports"]
    assert stage.fakes.calls == [begin + arguments]


@pytest.mark.parametrize(
    ("form", "arguments"),
    [
        ({"type": "raw"}, ["raw"]),
        ({"type": "qcow2", "compat": "1.1"}, ["qcow2", "-c", "-o", "compat=1.1"]),
        ({"type": "qcow2", "compression": False}, ["qcow2"]),
        ({"type": "vdi"}, ["vdi"]),
        (
            {"type": "vmdk", "adapter_type": "ide", "compat6": True, "subformat": "streamOptimized"},
            ["vmdk", "-c", "-o", "adapter_type=ide,compat6,subformat=streamOptimized"],
        ),
        ({"type": "vpc"}, ["vpc", "-o", "subformat=fixed,force_size"]),
        ({"type": "vpc", "subformat": "dynamic", "force_size": False}, ["vpc", "-o", "subformat=dynamic"]),
        (
            {"type": "qcow2", "compression": True, "compression-type": "zstd"},
            ["qcow2", "-c", "-o", "compression_type=zstd"],
        ),
    ],
)
def test_qemu(stage: Stage, tree: Path, form: dict[str, Any], arguments: list[str]) -> None:
    stage.fakes.add("qemu-img")
    inputs = {"image": {"path": "/in", "data": {"files": {"disk.raw": {}}}}}
    stage.ok("org.osbuild.qemu", {"filename": "x", "format": form}, inputs=inputs)
    argv = ["qemu-img", "convert", "-f", "raw", "-O", *arguments, "/in/disk.raw", f"{tree}/x"]
    assert stage.fakes.calls == [argv]


def test_grub_efi(stage: Stage, tree: Path, tmp_path: Path) -> None:
    stage.fakes.add("mkfs.fat", "mmd")
    stage.fakes.add("mcopy", does='case "$5" in *grub.cfg) cat "$4" >>"$0.config"; stat -c %Y "$4" >>"$0.time";; esac')
    for name in ("shim", "grub"):
        (tmp_path / name).touch()
    options = {
        "filename": "disk",
        "start": 2 * MIB,
        "size": 64 * MIB,
        "volid": "0123abcd",
        "label": "ESP",
        "vendor": "debian",
        "root-uuid": UUID,
        "prefix": "/boot/grub",
    }
    # Ubuntu's packages have other names for shim.
    constants = {"SHIM": ["/nowhere", f"{tmp_path}/shim"], "GRUB": [f"{tmp_path}/grub"], "MOK": ["/nowhere"]}
    stage.ok("org.kiln.grub-efi", options, constants=constants)
    fat, directories, *copies = stage.fakes.calls
    image = f"{tree}/disk"
    assert fat == f"mkfs.fat --invariant -F 32 -s 1 -i 0123abcd -n ESP --offset 4096 {image} 65536".split()
    at = f"{image}@@{2 * MIB}"
    assert directories == ["mmd", "-i", at, "::/EFI", "::/EFI/BOOT", "::/EFI/debian"]
    assert [(call[:4], call[5]) for call in copies] == [
        (["mcopy", "-m", "-i", at], "::/EFI/BOOT/BOOTX64.EFI"),
        (["mcopy", "-m", "-i", at], "::/EFI/BOOT/grubx64.efi"),
        (["mcopy", "-m", "-i", at], "::/EFI/debian/grub.cfg"),
    ]
    assert [call[4] for call in copies[:2]] == [f"{tmp_path}/shim", f"{tmp_path}/grub"]
    assert (stage.fakes.directory / "mcopy.config").read_text(encoding="utf-8").splitlines() == [
        f"search --no-floppy --fs-uuid --set=root {UUID}",
        "set prefix=($root)/boot/grub",
        "configfile $prefix/grub.cfg",
    ]
    assert (stage.fakes.directory / "mcopy.time").read_text(encoding="utf-8") == "1700000000\n"
    refusal = stage.refused("org.kiln.grub-efi", options, constants={"SHIM": ["/nowhere"]})
    assert "shim-signed" in refusal


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ({"type": "partition", "partlabel": "gpt", "number": 2, "path": "/boot/grub"}, "(,gpt3)/boot/grub"),
        ({"type": "partition", "partlabel": "dos", "number": 0, "path": "/g"}, "(,msdos1)/g"),
        ({"type": "path", "path": "/g"}, "/g"),
    ],
)
def test_grub2_inst(stage: Stage, tree: Path, tmp_path: Path, prefix: dict[str, Any], words: str) -> None:
    stage.fakes.add(
        "grub-mkimage", does='for last; do [ "$flag" = --output ] && head -c 700 /dev/zero >"$last"; flag=$last; done'
    )
    (tmp_path / "i386-pc").mkdir()
    (tmp_path / "i386-pc/boot.img").write_bytes(bytes(512))
    (tree / "disk").write_bytes(bytes(MIB))
    options = {
        "filename": "disk",
        "platform": "i386-pc",
        "location": 34,
        "core": {"type": "mkimage", "partlabel": "gpt", "filesystem": "ext4", "modules": ["normal"]},
        "prefix": prefix,
    }
    stage.ok("org.osbuild.grub2.inst", options, constants={"MODULE_DIRECTORY": f"{tmp_path}/"})
    (call,) = stage.fakes.calls
    output = call.pop(call.index("--output") + 1)
    assert output.endswith("/core.img")
    begin = f"grub-mkimage --directory {tmp_path}/i386-pc --prefix {words} --format i386-pc --compression auto"
    assert call == [*begin.split(), "--output", "part_gpt", "ext2", "biosdisk", "normal"]
