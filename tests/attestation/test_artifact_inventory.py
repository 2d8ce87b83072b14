"""The lists of a tree: what GNU sha256sum reads back, and what dpkg says is installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.artifact.inventory import dpkg_manifest, hash_line, squashfs_hashes
from kiln.errors import KilnError
from kiln.events.model import CollectingSink, Progress

STRANGE = [b"a\nb", b"back\\slash", b"carriage\rreturn", b"\xff\xfe", b" leading", b"-dash", b"\\n", "ü".encode()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "etc/ssh").mkdir(parents=True)
    (root / "etc/hostname").write_bytes(b"box\n")
    (root / "etc/ssh/config").write_bytes(b"x" * 3_000_000)
    (root / "etc.conf").write_bytes(b"")
    (root / "etc/link").symlink_to("/etc/passwd")
    (root / "etc/dirlink").symlink_to("/")
    os.mkfifo(root / "fifo")
    for name in STRANGE:
        with open(os.path.join(os.fsencode(root), name), "wb") as file:  # noqa: PTH118, PTH123
            file.write(name)
    return root


def test_sha256sum_reads_the_list_back_and_finds_every_file_whole(tree: Path) -> None:
    data = squashfs_hashes(tree)
    done = subprocess.run(["sha256sum", "--check", "--strict"], input=data, cwd=tree, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b": OK\n") == 3 + len(STRANGE)


def test_the_list_is_byte_for_byte_that_of_sha256sum(tree: Path) -> None:
    names = subprocess.run(["find", ".", "-type", "f", "-print0"], cwd=tree, capture_output=True, check=True).stdout
    ordered = sorted(names.rstrip(b"\0").split(b"\0"))
    expected = subprocess.run(["sha256sum", "--", *ordered], cwd=tree, capture_output=True, check=True).stdout
    assert squashfs_hashes(tree) == expected
    assert squashfs_hashes(tree, threads=1) == expected


def test_links_and_special_files_are_neither_followed_nor_listed(tree: Path) -> None:
    data = squashfs_hashes(tree)
    assert b"link" not in data
    assert b"passwd" not in data
    assert b"fifo" not in data


@given(st.binary(min_size=1, max_size=30).filter(lambda name: b"\0" not in name and b"/" not in name))
def test_no_name_can_forge_a_line(name: bytes) -> None:
    line = hash_line(b"./" + name, "0" * 64)
    assert line.count(b"\n") == 1
    assert line.startswith(b"\\") == any(character in name for character in b"\\\n\r")


def test_progress_ends_with_all_files(tree: Path) -> None:
    sink = CollectingSink()
    squashfs_hashes(tree, sink, step="attest")
    last = sink.events[-1]
    assert isinstance(last, Progress)
    assert (last.step, last.done, last.total, last.unit) == ("attest", 11, 11, "files")


STATUS = """Package: zlib1g
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 1:1.2.13.dfsg-1
Description: compression library
 Package: fake
 Version: 9

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 2

Package: adduser
Status: install ok installed
Architecture: all
Version: 3.134

Package: half
Status: install ok half-installed
Architecture: amd64
Version: 1
"""


def _status(tree: Path, text: str) -> Path:
    path = tree / "var/lib/dpkg/status"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return tree


def test_the_manifest_lists_what_is_installed_sorted(tmp_path: Path) -> None:
    assert dpkg_manifest(_status(tmp_path, STATUS)) == b"adduser:all\t3.134\nzlib1g:amd64\t1:1.2.13.dfsg-1\n"


def test_the_manifest_agrees_with_dpkg_query_on_this_machine() -> None:
    if not Path("/var/lib/dpkg/status").exists():
        pytest.skip("no dpkg here")
    wanted = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}:${Architecture}\t${Version}\n"]
    shown = subprocess.run(wanted, capture_output=True, check=True).stdout.splitlines(keepends=True)
    expected = sorted(line.removeprefix(b"installed ") for line in shown if line.startswith(b"installed "))
    assert dpkg_manifest(Path("/")) == b"".join(expected)


def test_a_tree_without_dpkg_and_a_status_without_a_version_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KilnError) as caught:
        dpkg_manifest(tmp_path)
    assert caught.value.reason == "no-dpkg-status"
    with pytest.raises(KilnError) as caught:
        dpkg_manifest(_status(tmp_path, "Package: a\nStatus: install ok installed\nArchitecture: all\n"))
    assert caught.value.reason == "bad-dpkg-status"


def test_a_status_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    _status(tmp_path / "tree", STATUS)
    (tmp_path / "tree/var/lib/dpkg/status").unlink()
    (tmp_path / "tree/var/lib/dpkg/status").symlink_to("/etc/passwd")
    with pytest.raises(KilnError) as caught:
        dpkg_manifest(tmp_path / "tree")
    assert caught.value.reason == "no-dpkg-status"
