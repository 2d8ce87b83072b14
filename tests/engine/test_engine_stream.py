"""A layer as a stream: everything is kept, the same layer is the same stream, nothing damaged or hostile gets in."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.engine.objects.content import tree_id
from kiln.engine.objects.model import EMPTY
from kiln.engine.objects.store import ObjectStore
from kiln.engine.objects.stream.entries import HEADER, MAGIC, SEGMENT
from kiln.engine.objects.stream.reading import read_layer
from kiln.engine.objects.stream.writing import layer_digest, write_layer
from kiln.errors import KilnError

pytestmark = pytest.mark.root

TIME = 1_500_000_000_123_456_789


def fill(tree):
    (tree / "dir").mkdir()
    (tree / "dir").chmod(0o2775)
    (tree / "dir/suid").write_text("#!")
    os.chown(tree / "dir/suid", 7, 8)
    (tree / "dir/suid").chmod(0o4755)
    os.setxattr(tree / "dir/suid", "user.kiln", b"\x00\xff")
    # cap_net_raw+ep, as setcap(8) writes it
    os.setxattr(tree / "dir/suid", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.setxattr(tree / "dir", "security.kiln", b"x")
    (tree / "one").write_text("shared")
    os.link(tree / "one", tree / "two")
    os.link(tree / "one", tree / "dir/three")
    (tree / "link").symlink_to("/nowhere//./x/")
    os.link(tree / "link", tree / "link-again", follow_symlinks=False)
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(tree / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "socket", stat.S_IFSOCK | 0o600)
    with (tree / "sparse").open("wb") as file:
        file.truncate(64 * 1024 * 1024)
        file.seek(32 * 1024 * 1024)
        file.write(b"data")
    (tree / "zeros").write_bytes(bytes(3 * 4096 + 5))
    (tree / "large").write_bytes(os.urandom(3 * 1024 * 1024 + 17))
    (tree / 'b\udcffad\n"').write_text("name")
    (tree / "empty").touch()
    deep = tree
    for _ in range(40):
        deep = deep / "d"
        deep.mkdir()
    for path in sorted(tree.rglob("*"), reverse=True):
        os.utime(path, ns=(1, TIME), follow_symlinks=False)
    os.utime(tree, ns=(1, TIME))


@pytest.fixture
def tree(tmp_path):
    path = tmp_path / "tree"
    path.mkdir(mode=0o751)
    fill(path)
    return path


def streamed(tree):
    out = io.BytesIO()
    digest = write_layer(tree, out.write)
    return out.getvalue(), digest


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def received(data, destination, expected=None):
    return read_layer(io.BytesIO(data).read, destination, expected)


def refused(data, destination, expected=None):
    with pytest.raises(KilnError) as caught:
        received(data, destination, expected)
    assert caught.value.reason == "damaged-stream"
    assert caught.value.retriable
    return caught.value.message


def test_everything_that_a_layer_has_arrives(tree, tmp_path):
    data, digest = streamed(tree)
    copy = tmp_path / "copy"
    assert received(data, copy, digest) == digest
    assert tree_id(copy) == tree_id(tree)
    assert streamed(copy) == (data, digest)
    assert layer_digest(tree) == digest
    assert (copy / "one").stat().st_ino == (copy / "dir/three").stat().st_ino
    assert (copy / "link").lstat().st_ino == (copy / "link-again").lstat().st_ino
    assert (copy / "sparse").stat().st_blocks == (tree / "sparse").stat().st_blocks
    assert (copy / "zeros").stat().st_blocks == (tree / "zeros").stat().st_blocks > 0
    shown = subprocess.run(["getcap", copy / "dir/suid"], capture_output=True, text=True, check=False)
    assert shown.returncode != 0 or "cap_net_raw" in shown.stdout


def test_the_digest_does_not_depend_on_how_the_disk_keeps_zeros(tmp_path):
    for name in ("dense", "holes"):
        (tmp_path / name).mkdir()
    content = b"a" + bytes(1024 * 1024) + b"b" * 5000 + bytes(9000)
    (tmp_path / "dense/file").write_bytes(content)
    with (tmp_path / "holes/file").open("wb") as file:
        file.write(b"a")
        file.seek(1024 * 1024 + 1)
        file.write(b"b" * 5000)
        file.truncate(len(content))
    for name in ("dense", "holes"):
        os.utime(tmp_path / name / "file", ns=(TIME, TIME))
        os.utime(tmp_path / name, ns=(TIME, TIME))
    dense, holes = streamed(tmp_path / "dense"), streamed(tmp_path / "holes")
    assert dense[1] == holes[1]
    assert len(holes[0]) < 30_000 < len(dense[0])


def test_layers_of_a_store_mean_the_same_in_another_one(tmp_path):
    keys = [f"{number:064x}" for number in range(3)]
    with (
        ObjectStore(tmp_path / "here", backend="overlay", background=False) as here,
        ObjectStore(tmp_path / "there", backend="overlay", background=False) as there,
    ):
        working = here.begin(keys[0])
        fill(working.tree)
        (working.tree / "gone").mkdir()
        (working.tree / "gone/file").touch()
        (working.tree / "moved").mkdir()
        (working.tree / "moved/deep").write_text("deep")
        (working.tree / "opaque").mkdir()
        (working.tree / "opaque/old").touch()
        base = here.commit(working)
        working = here.begin(keys[1], base)
        shutil.rmtree(working.tree / "gone")
        (working.tree / "zeros").unlink()
        (working.tree / "empty").unlink()
        (working.tree / "moved").rename(working.tree / "renamed")
        shutil.rmtree(working.tree / "opaque")
        (working.tree / "opaque").mkdir()
        (working.tree / "opaque/new").touch()
        (working.tree / "one").write_text("changed under all its names")
        ref = here.commit(working)
        for key in ref.layers:
            data, digest = streamed(here.root / "objects" / key / "layer")
            (there.root / "objects" / key).mkdir()
            copy = there.root / "objects" / key / "layer"
            received(data, copy, digest)
            assert layer_digest(copy) == digest
            attributes = {name for path in copy.rglob("*") for name in os.listxattr(path, follow_symlinks=False)}
            assert not attributes & {"trusted.overlay.origin", "trusted.overlay.impure", "trusted.overlay.nlink"}
        with there.mounted(ref) as theirs, here.mounted(ref) as ours:
            assert tree_id(theirs) == tree_id(ours)
            assert names(theirs / "opaque") == ["new"]
            assert not (theirs / "gone").exists()
    assert EMPTY.layers == ()


def test_a_stream_that_ends_anywhere_is_refused(tmp_path):
    small = tmp_path / "small"
    (small / "d").mkdir(parents=True)
    (small / "d/f").write_text("text")
    (small / "d/l").symlink_to("f")
    data, _ = streamed(small)
    for end in range(len(data)):
        assert "ends too early" in refused(data[:end], tmp_path / f"cut{end}") or end == 0


@given(st.data())
def test_no_changed_byte_gets_through(drawn):
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "tree/d").mkdir(parents=True)
        (place / "tree/d/f").write_bytes(b"x" * drawn.draw(st.integers(0, 9000)))
        os.setxattr(place / "tree/d/f", "user.k", b"v")
        os.link(place / "tree/d/f", place / "tree/e")
        data, digest = streamed(place / "tree")
        position = drawn.draw(st.integers(0, len(data) - 1))
        changed = bytearray(data)
        changed[position] ^= drawn.draw(st.integers(1, 255))
        refused(bytes(changed), place / "copy", digest)
        assert names(place) in (["copy", "tree"], ["tree"])


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=12).filter(
            lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
        ),
        st.one_of(st.binary(max_size=10_000), st.none(), st.tuples(st.integers(0, 50), st.integers(0, 50))),
        max_size=8,
    )
)
def test_any_tree_arrives(files):
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        (place / "tree/sub").mkdir(parents=True)
        for where in (place / "tree", place / "tree/sub"):
            for name, value in files.items():
                path = where / os.fsdecode(name)
                if os.path.lexists(path):
                    continue
                if value is None:
                    path.mkdir()
                elif isinstance(value, bytes):
                    path.write_bytes(value)
                else:
                    with path.open("wb") as file:
                        for block in value:
                            file.seek(block * 4096)
                            file.write(b"block")
        data, digest = streamed(place / "tree")
        assert received(data, place / "copy", digest) == digest
        assert streamed(place / "copy") == (data, digest)


def header(*line):
    data = json.dumps(line, separators=(",", ":")).encode()
    return HEADER.pack(len(data)) + data


ROOT = header(".", "dir", 0o755, 0, 0, 0, [], None)


def entry(path, kind="dir", mode=0o755, uid=0, gid=0, mtime=0, attributes=(), more=None):
    return header(path, kind, mode, uid, gid, mtime, list(attributes), more)


def file(path, data=b"x"):
    segment = SEGMENT.pack(0, len(data)) + data
    return entry(path, "file", 0o644, more=len(data)) + segment + SEGMENT.pack(len(data), 0)


@pytest.mark.parametrize(
    "entries",
    [
        [ROOT, file("../evil")],
        [ROOT, file("/evil")],
        [ROOT, file("..")],
        [ROOT, file(".")],
        [ROOT, file("")],
        [ROOT, file("a//b")],
        [ROOT, file("a\0b")],
        [ROOT, entry("a", "link", 0o777, more="/tmp"), file("a/evil")],
        [ROOT, entry("a", "link", 0o777, more=".."), entry("a/evil")],
        [ROOT, entry("a"), file("a/../evil")],
        [ROOT, file("b"), file("a")],
        [ROOT, file("a"), file("a")],
        [ROOT, entry("a"), entry("a", "link", 0o777, more="/tmp")],
        [ROOT, entry("a"), file("b"), file("a/late")],
        [ROOT, file("a/b")],
        [ROOT, header("a", "name", "../../etc/passwd")],
        [ROOT, header("a", "name", "/etc/passwd")],
        [ROOT, header("a", "name", "a")],
        [ROOT, entry("d"), header("e", "name", "d")],
        [ROOT, entry("a", "link", 0o777, more="/etc"), header("b", "name", "a/passwd")],
        [ROOT, entry("a", "file", 0o644, more=-1)],
        [ROOT, entry("a", "file", 0o644, more=2**63)],
        [ROOT, entry("a", "file", 0o644, more=True)],
        [ROOT, entry("a", mode=0o100755)],
        [ROOT, entry("a", uid=-1)],
        [ROOT, entry("a", gid=2**32 - 1)],
        [ROOT, entry("a", mtime=2**70)],
        [ROOT, entry("a", mtime=1.5)],
        [ROOT, entry("a", "char", more=[2**40, 1])],
        [ROOT, entry("a", "what")],
        [ROOT, entry("a", "link", 0o777, more="")],
        [ROOT, entry("a", "link", 0o777, more="x" * 5000)],
        [ROOT, entry("x" * 300)],
        [ROOT, entry("a", attributes=[["trusted.overlay.metacopy", ""]])],
        [ROOT, entry("a", attributes=[["trusted.overlay.redirect", b"/../../etc".hex()]])],
        [ROOT, entry("a", attributes=[["user.b", "00"], ["user.a", "00"]])],
        [ROOT, entry("a", attributes=[["user.a", "0"]])],
        [ROOT, entry("\ud800")],
        [ROOT, header("a", "dir")],
        [ROOT, entry("a", "file", 0o644, more=4), SEGMENT.pack(0, 5), b"12345", SEGMENT.pack(4, 0)],
        [ROOT, entry("a", "file", 0o644, more=4), SEGMENT.pack(1, 3), b"123", SEGMENT.pack(4, 0)],
        [ROOT, entry("a", "file", 0o644, more=4), SEGMENT.pack(5, 0)],
        [ROOT, entry("a", "file", 0o644, more=2**32), SEGMENT.pack(0, 2**31)],
        [file("a")],
        [],
        [HEADER.pack(2**31)],
    ],
)
def test_what_would_reach_out_of_the_directory_is_refused(entries, tmp_path):
    inside = tmp_path / "outer/inside"
    inside.parent.mkdir()
    refused(MAGIC + b"".join(entries) + HEADER.pack(0) + bytes(32), inside)
    assert names(tmp_path) == ["outer"]
    assert names(tmp_path / "outer") == ["inside"]


def test_the_digest_that_was_asked_for_is_the_only_one(tree, tmp_path):
    data, digest = streamed(tree)
    assert digest in refused(data, tmp_path / "copy", "0" * 64)
    with pytest.raises(FileExistsError):
        received(data, tree, digest)


def test_a_reference_to_a_file_of_another_layer_is_not_sent(tree):
    os.setxattr(tree / "large", "trusted.overlay.metacopy", b"")
    with pytest.raises(KilnError) as caught:
        layer_digest(tree)
    assert caught.value.reason == "unstreamable-layer"
