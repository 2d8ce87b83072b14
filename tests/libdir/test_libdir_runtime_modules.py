"""Modules of the runtime that no stage of ours uses: osbuild's own stages import them."""

from __future__ import annotations

import fcntl
import importlib
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

LIBDIR = Path(__file__).parents[2] / "libdir"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    monkeypatch.syspath_prepend(str(LIBDIR))
    yield lambda name: importlib.import_module(f"osbuild.util.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "osbuild"]:
        del sys.modules[name]


def test_locks_are_of_the_open_file(load: Any, tmp_path: Path) -> None:
    linux = load("linux")
    with (tmp_path / "lock").open("w+b") as one, (tmp_path / "lock").open("r+b") as other:
        linux.fcntl_flock(one.fileno(), fcntl.F_WRLCK)
        with pytest.raises(BlockingIOError):
            linux.fcntl_flock(other.fileno(), fcntl.F_RDLCK)
        linux.fcntl_flock(one.fileno(), fcntl.F_UNLCK)
        linux.fcntl_flock(other.fileno(), fcntl.F_WRLCK, wait=True)
    with pytest.raises(ValueError, match="file descriptor"):
        linux.ioctl_get_immutable(-1)
    assert linux.proc_boot_id("a") == linux.proc_boot_id("a") != linux.proc_boot_id("b")
    assert linux.proc_boot_id("a").version == 4


def test_replacing_and_finding(load: Any, tmp_path: Path) -> None:
    replace = load("replace")
    (tmp_path / "a").write_text("one two\nthree\n", encoding="utf-8")
    replace.replace(str(tmp_path / "a"), [("t(.)", r"<\1>"), ("one", "1")])
    assert (tmp_path / "a").read_text(encoding="utf-8") == "1 <w>o\n<h>ree\n"
    assert list(replace.rglob(str(tmp_path / "*"))) == [str(tmp_path / "a")]
    with pytest.raises(OSError, match="nothing matches"):
        list(replace.rglob(str(tmp_path / "x*"), fatal=True))


def test_the_settings_of_container_storage(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = load("host")
    (tmp_path / "storage.conf").write_text('[storage]\ndriver = "overlay"\n', encoding="utf-8")
    monkeypatch.setattr(host, "STORAGE", (str(tmp_path / "no"), str(tmp_path / "storage.conf")))
    assert host.get_container_storage() == {"storage": {"driver": "overlay"}}
    monkeypatch.setattr(host, "STORAGE", (str(tmp_path / "no"),))
    with pytest.raises(FileNotFoundError):
        host.get_container_storage()


def test_the_programs_for_removable_media(load: Any, tmp_path: Path) -> None:
    makeefi = load("makeefi")
    for name in (
        "BOOT/BOOTX64.EFI",
        "BOOT/fbx64.efi",
        "fedora/BOOTX64.CSV",
        "fedora/shimx64.efi",
        "fedora/grubx64.efi",
    ):
        path = tmp_path / "tree/boot/efi/EFI" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="ascii")
    assert makeefi.find_efi_vendor_dir_name(source_tree=str(tmp_path / "tree")) == "fedora"
    makeefi.mkefidir(str(tmp_path / "efi"), str(tmp_path / "tree"))
    found = {str(path.relative_to(tmp_path / "efi")) for path in (tmp_path / "efi").rglob("*")}
    assert found == {"BOOT", "BOOT/BOOTX64.EFI", "BOOT/grubx64.efi"}
    with pytest.raises(ValueError, match="no EFI programs"):
        makeefi.find_efi_source_paths(str(tmp_path))


def test_the_headers_of_a_program(load: Any, tmp_path: Path) -> None:
    pe32p = load("pe32p")
    optional = struct.pack(pe32p.OptionalFormat, 0x20B, *range(1, 29)) + bytes(16)
    coff = struct.pack(pe32p.CoffFormat, b"PE\0\0", 0x8664, 1, 0, 0, 0, len(optional), 2)
    section = struct.pack(pe32p.SectionFormat, b".text", 10, 4096, 512, 1024, 0, 0, 0, 0, 7)
    path = tmp_path / "program.efi"
    path.write_bytes(b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80) + bytes(0x40) + coff + optional + section)
    with path.open("rb") as file:
        header = pe32p.read_coff_header(file)
        assert (header.Machine, header.NumberOfSections) == (0x8664, 1)
        assert pe32p.read_optional_header(file, header).Magic == 0x20B
        (one,) = pe32p.read_sections(file, header)
        assert (one.Name.rstrip(b"\0"), one.VirtualAddress) == (b".text", 4096)
        assert pe32p.read_sections(file) == [one]
    path.write_bytes(b"x" * 10)
    with path.open("rb") as file, pytest.raises(ValueError, match="too short"):
        pe32p.read_coff_header(file)


def test_a_script_of_lorax(load: Any, tmp_path: Path) -> None:
    lorax = load("lorax")
    tree, build = tmp_path / "tree", tmp_path / "build"
    for path in (tree / "lib/modules/1/kernel/sound/a.ko", tree / "lib/modules/1/kernel/sound/keep.ko", build / "file"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("one\n", encoding="ascii")
    (tmp_path / "script").write_text(
        "# a comment\n"
        "mkdir /etc/{a,b}\n"
        "append /etc/a/x 'two\\tthree'\n"
        "install /file /etc/b\n"
        "replace one ${word} /etc/b/*\n"
        "move /etc/b/file /etc/a\n"
        "symlink a /etc/link\n"
        "removekmod sound --allbut keep\n"
        "-runcmd false\n"
        "%if remove:\n"
        "remove /etc/b\n"
        "%endif\n",
        encoding="utf-8",
    )
    lorax.Script(
        lorax.render_template(str(tmp_path / "script"), {"word": "1", "remove": True}), str(build), str(tree)
    )()
    files = {str(path.relative_to(tree)) for path in tree.rglob("*") if not path.is_dir() or path.is_symlink()}
    assert files == {"etc/a/x", "etc/a/file", "etc/link", "lib/modules/1/kernel/sound/keep.ko"}
    assert (tree / "etc/a/x").read_text(encoding="utf-8") == "two\tthree\n"
    assert (tree / "etc/a/file").read_text(encoding="utf-8") == "1\n"
    with pytest.raises(ValueError, match="no command `tree_path`"):
        lorax.Script([["tree_path", "/"]], str(build), str(tree))()
    with pytest.raises(subprocess.CalledProcessError):
        lorax.Script([["runcmd", "false"]], str(build), str(tree))()
    assert lorax.brace_expand("a{b,c}{d,e}") == ["abd", "abe", "acd", "ace"]


METADATA = (
    'vg {\nid = "x-y"\nseqno = 3\nstatus = ["RESIZEABLE", "READ"]\nextent_size = 8192 # 4 Megabytes\n'
    'physical_volumes {\npv0 {\ndevice = "/dev/with \\"quotes\\""\npe_start = 2048\n}\n}\n}\n'
    'contents = "Text Format Volume Group"\nversion = 1\ncreation_time = 1700000000 # now\n\0'
)


@pytest.fixture
def volume(load: Any, tmp_path: Path) -> Path:
    lvm2 = load("lvm2")
    text, area, start = METADATA.encode(), 4096, 512
    body = struct.pack("<16sLQQ", b" LVM2 x[5A%r0N*>", 1, area, 65536)
    body = (body + struct.pack("<QQLL", start, len(text), lvm2.checksum(text), 0)).ljust(508, b"\0")
    image = bytearray(1 << 20)
    label = struct.pack("<8sQLL8s", b"LABELONE", 1, 0, 32, b"LVM2 001") + struct.pack("<32sQ", b"u" * 32, 1 << 20)
    label += struct.pack("<QQQQ", 1 << 19, 0, 0, 0) + struct.pack("<QQQQ", area, 65536, 0, 0)
    image[512 : 512 + len(label)] = label
    image[area : area + 512] = struct.pack("<L", lvm2.checksum(body)) + body
    image[area + start : area + start + len(text)] = text
    path = tmp_path / "disk"
    path.write_bytes(image)
    return path


def test_a_volume_group_is_renamed_in_its_image(load: Any, volume: Path) -> None:
    lvm2 = load("lvm2")
    with lvm2.Disk.open(volume) as disk:
        assert disk.metadata.vg_name == "vg"
        assert disk.metadata.data["vg"]["status"] == ["RESIZEABLE", "READ"]
        assert disk.metadata.data["vg"]["physical_volumes"]["pv0"]["device"] == '/dev/with "quotes"'
        disk.rename_vg("root_vg")
        disk.set_description("for a test")
        disk.set_creation_time(1)
        disk.set_creation_host("here")
        disk.flush_metadata()
    with lvm2.Disk.open(volume, read_only=True) as disk:
        assert (disk.metadata.vg_name, next(iter(disk.metadata.data))) == ("root_vg", "root_vg")
        assert disk.metadata.data["creation_time"] == 1
        assert disk.metadata.data["root_vg"]["extent_size"] == 8192


def test_damaged_metadata_is_refused(load: Any, volume: Path) -> None:
    lvm2 = load("lvm2")
    data = bytearray(volume.read_bytes())
    data[4096 + 520] ^= 1
    volume.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        lvm2.Disk.open(volume)
    volume.write_bytes(bytes(1 << 20))
    with pytest.raises(RuntimeError, match="no label"):
        lvm2.Disk.open(volume)
