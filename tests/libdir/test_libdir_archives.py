"""Stages that pack and unpack: what the programs are told, and that equal trees give equal bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage_tools import files_input, put, tool, tree_input

Stage = Any
EPOCH = 1_700_000_000


def sample(root: Path) -> Path:
    """Make a tree with most of what trees hold; its names are made in different orders."""
    root.mkdir()
    for name in (("b", "a"), ("a", "b"))[root.name.endswith("2")]:
        put(root, f"dir/{name}", f"text {name}", 0o640)
    (root / "link").symlink_to("dir/a")
    (root / "hard").hardlink_to(root / "dir/a")
    os.utime(root / "dir/a", (EPOCH - 100.5, EPOCH - 100.5))
    for path in ("dir/b", "dir", "."):
        os.utime(root / path, (EPOCH + 1000 + root.name.endswith("2"),) * 2)
    os.utime(root / "link", (EPOCH - 5, EPOCH - 5), follow_symlinks=False)
    os.utime(root, (EPOCH + 99 + root.name.endswith("2"),) * 2)
    return root


def twice(stage: Stage, tmp_path: Path, name: str, filename: str, **options: Any) -> bytes:
    """Pack two equal trees and return the archive, which must be the same for both."""
    results = []
    for number in (1, 2):
        root = sample(tmp_path / f"sample{number}")
        inputs = {"base" if name.endswith("archive") else "tree": tree_input(root)}
        stage.ok(name, {"filename": filename, **options}, inputs=inputs)
        results.append((stage.tree / filename).read_bytes())
        shutil.rmtree(root)
    assert results[0] == results[1]
    return results[0]


def test_tar_is_told_to_sort_and_to_leave_times_out(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("tar")
    inputs = {"tree": tree_input(sample(tmp_path / "sample"))}
    stage.ok("org.osbuild.tar", {"filename": "a.tar", "sparse": True}, inputs=inputs)
    stage.ok("org.osbuild.tar", {"filename": "b.tar", "selinux": False, "xattrs": False, "acls": False}, inputs=inputs)
    first, second = stage.fakes.calls
    assert first == [
        *("tar", "--create", "--sort=name", "--numeric-owner", "--acls", "--selinux", "--xattrs", "--format=posix"),
        "--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime",
        *("--xattrs-include=*", f"--mtime=@{EPOCH}", "--clamp-mtime", "--sparse"),
        *("--directory", str(tmp_path / "sample"), "--", "."),
    ]
    assert second[4:8] == ["--no-acls", "--no-selinux", "--no-xattrs", "--format=gnu"]


@pytest.mark.parametrize("filename", ["a.tar", "a.tar.gz", "a.tar.xz", "a.tar.zst"])
def test_tar_of_equal_trees_is_equal(stage: Stage, tmp_path: Path, filename: str, needs: Callable[..., None]) -> None:
    needs("tar", "xz", "zstd")
    data = twice(stage, tmp_path, "org.osbuild.tar", filename)
    if filename.endswith("zst"):
        data = tool("zstd", "-d", "-q", stdin=data)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert [member.name for member in archive] == [".", "./dir", "./dir/a", "./dir/b", "./hard", "./link"]
        assert archive.getmember("./dir/b").mtime == EPOCH
        assert archive.getmember("./dir/a").mtime == EPOCH - 100.5
        assert {member.uname for member in archive} == {""}


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"root-node": "omit"}, ["dir", "dir/a", "dir/b", "hard", "link"]),
        ({"paths": ["link", "dir"]}, ["link", "dir", "dir/a", "dir/b"]),
        ({"paths": ["link"], "transform": "s/link/renamed/"}, ["renamed"]),
    ],
)
def test_tar_members(stage: Stage, tmp_path: Path, options: dict[str, Any], names: list[str]) -> None:
    stage.ok("org.osbuild.tar", {"filename": "a.tar", **options}, inputs={"tree": tree_input(sample(tmp_path / "s"))})
    with tarfile.open(stage.tree / "a.tar") as archive:
        assert archive.getnames() == names


def test_an_empty_tree_without_its_root_is_an_empty_archive(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    options = {"filename": "a.tar", "root-node": "omit"}
    stage.ok("org.osbuild.tar", options, inputs={"tree": tree_input(tmp_path / "empty")})
    with tarfile.open(stage.tree / "a.tar") as archive:
        assert archive.getnames() == []


def test_untar_is_told_to_keep_everything(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("tar")
    source = put(tmp_path, "in/a.tar", "")
    stage.ok("org.osbuild.untar", {"prefix": "/opt/x"}, inputs={"file": files_input(source)})
    assert stage.fakes.calls == [
        [
            *("tar", "--extract", "--acls", "--selinux", "--xattrs", "--xattrs-include=*", "--numeric-owner"),
            *("--preserve-permissions", "--file", str(source), "--directory", str(stage.tree / "opt/x")),
        ]
    ]


@pytest.mark.root
def test_untar_gives_the_tree_that_tar_took(stage: Stage, tmp_path: Path) -> None:
    root = sample(tmp_path / "sample")
    os.chown(root / "dir/b", 12345, 54321)
    (root / "dir/b").chmod(0o4750)
    os.setxattr(root / "dir/a", "user.kiln", b"value")
    stage.ok("org.osbuild.tar", {"filename": "a.tar.gz"}, inputs={"tree": tree_input(root)})
    shutil.move(stage.tree / "a.tar.gz", tmp_path / "a.tar.gz")
    stage.ok("org.osbuild.untar", {}, inputs={"file": files_input(tmp_path / "a.tar.gz")})
    status = (stage.tree / "dir/b").stat()
    assert (status.st_uid, status.st_gid, stage.mode("dir/b")) == (12345, 54321, 0o4750)
    assert os.getxattr(stage.tree / "hard", "user.kiln") == b"value"
    assert (stage.tree / "dir/a").stat().st_mtime == EPOCH - 100.5


@pytest.mark.parametrize(
    ("name", "options", "argv"),
    [
        ("gzip", {}, ["gzip", "--no-name", "--stdout", "-1"]),
        ("gzip", {"level": 9}, ["gzip", "--no-name", "--stdout", "-9"]),
        ("zstd", {}, ["zstd", "--quiet", "--threads=0", "--stdout"]),
    ],
)
def test_compressors_are_told_to_write_no_name(
    stage: Stage, tmp_path: Path, name: str, options: dict[str, Any], argv: list[str]
) -> None:
    stage.fakes.add(name)
    source = put(tmp_path, "in/file", "x")
    stage.ok(f"org.osbuild.{name}", {"filename": "/out/f", **options}, inputs={"file": files_input(source)})
    assert stage.fakes.calls == [[*argv, str(source)]]


@pytest.mark.parametrize(("name", "undo"), [("gzip", "gzip"), ("xz", "xz"), ("zstd", "zstd")])
def test_a_compressed_file_depends_on_its_content_alone(
    stage: Stage, tmp_path: Path, name: str, undo: str, needs: Callable[..., None]
) -> None:
    needs(undo)
    results = []
    for number in (1, 2):
        source = put(tmp_path, f"in{number}/file{number}", "text " * 1000)
        os.utime(source, (EPOCH + number, EPOCH + number))
        stage.ok(f"org.osbuild.{name}", {"filename": "out"}, inputs={"file": files_input(source)})
        results.append((stage.tree / "out").read_bytes())
    assert results[0] == results[1]
    assert tool(undo, "-d", "-c", stdin=results[0]) == b"text " * 1000


def test_an_input_with_two_files_is_an_error(stage: Stage, tmp_path: Path) -> None:
    inputs = {"file": files_input(put(tmp_path, "in/a", ""), put(tmp_path, "in/b", ""))}
    assert "must hold one file, not 2" in stage.refused("org.osbuild.gzip", {"filename": "x"}, inputs=inputs)


def test_zip_of_equal_trees_is_equal(stage: Stage, tmp_path: Path) -> None:
    data = twice(stage, tmp_path, "org.osbuild.zip", "a.zip")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.namelist() == ["dir/", "dir/a", "dir/b", "hard", "link"]
        entry = archive.getinfo("dir/b")
        assert (entry.external_attr >> 16) & 0o7777 == 0o640
        assert entry.date_time == (2023, 11, 14, 22, 13, 20)
        assert archive.read("link") == b"dir/a"
        assert archive.testzip() is None


def test_zip_takes_what_the_patterns_name(stage: Stage, tmp_path: Path, needs: Callable[..., None]) -> None:
    inputs = {"tree": tree_input(sample(tmp_path / "s"))}
    stage.ok("org.osbuild.zip", {"filename": "a.zip", "include": ["link", "d*b"], "level": 0}, inputs=inputs)
    with zipfile.ZipFile(stage.tree / "a.zip") as archive:
        assert archive.namelist() == ["link", "dir/b"]
        assert archive.getinfo("dir/b").compress_type == zipfile.ZIP_STORED
    needs("unzip")
    tool("unzip", "-q", stage.tree / "a.zip", "-d", tmp_path / "out")
    assert (tmp_path / "out/dir/b").read_text() == "text b"
    assert str((tmp_path / "out/link").readlink()) == "dir/a"


def test_zip_levels_differ(stage: Stage, tmp_path: Path) -> None:
    put(tmp_path, "s/text", "".join(f"line {number * 7919 % 1000}\n" for number in range(5000)))
    sizes = []
    for level in (1, 9):
        stage.ok("org.osbuild.zip", {"filename": "a.zip", "level": level}, inputs={"tree": tree_input(tmp_path / "s")})
        sizes.append((stage.tree / "a.zip").stat().st_size)
    assert sizes[0] > sizes[1]


def blob(archive: tarfile.TarFile, descriptor: dict[str, Any]) -> bytes:
    """Return a blob of an image after a look at its size and digest."""
    member = archive.extractfile(f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}")
    assert member is not None
    data = member.read()
    assert len(data) == descriptor["size"]
    assert "sha256:" + hashlib.sha256(data).hexdigest() == descriptor["digest"]
    return data


def test_an_oci_image_of_equal_trees_is_equal(stage: Stage, tmp_path: Path) -> None:
    twice(stage, tmp_path, "org.osbuild.oci-archive", "a.oci", architecture="amd64")


def test_an_oci_image_is_what_the_specification_says(stage: Stage, tmp_path: Path) -> None:
    layers = {"base": tree_input(sample(tmp_path / "s"))}
    for name in ("layer.10", "layer.2"):
        put(tmp_path, f"{name}/name", name)
        layers[name] = tree_input(tmp_path / name)
    config = {"Entrypoint": ["/x"], "Volumes": ["/v"], "StopSiganl": "TERM"}
    options = {
        "filename": "a.oci",
        "architecture": "arm64",
        "variant": "v8",
        "config": config,
        "annotations": {"k": "v"},
    }
    stage.ok("org.osbuild.oci-archive", options, inputs=layers)
    with tarfile.open(stage.tree / "a.oci") as archive:
        assert {(member.mtime, member.uid, member.uname) for member in archive} == {(EPOCH, 0, "")}
        layout = archive.extractfile("oci-layout")
        index = archive.extractfile("index.json")
        assert layout is not None
        assert index is not None
        assert json.load(layout) == {"imageLayoutVersion": "1.0.0"}
        manifest = json.loads(blob(archive, json.load(index)["manifests"][0]))
        image = json.loads(blob(archive, manifest["config"]))
        contents = [gzip.decompress(blob(archive, descriptor)) for descriptor in manifest["layers"]]
    assert manifest["annotations"] == {"k": "v"}
    assert image["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(data).hexdigest() for data in contents]
    assert image["created"] == "2023-11-14T22:13:20Z"
    assert (image["architecture"], image["variant"], image["os"]) == ("arm64", "v8", "linux")
    assert image["config"] == {
        "Cmd": ["sh"],
        "Entrypoint": ["/x"],
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "StopSignal": "TERM",
        "Volumes": {"/v": {}},
    }
    found = []
    for data in contents[1:]:
        with tarfile.open(fileobj=io.BytesIO(data)) as layer:
            member = layer.extractfile("./name")
            assert member is not None
            found.append(member.read().decode())
    assert found == ["layer.2", "layer.10"]


def test_a_tree_is_laid_over_the_tree(stage: Stage, tmp_path: Path) -> None:
    for path in ("keep/a", "gone", "clear/a", "clear/b/c", "was-dir/x", "was-file"):
        put(stage.tree, path, "old")
    over = tmp_path / "over"
    for path in (".wh.gone", "clear/.wh..wh..opq", "clear/new", "was-dir", "was-file/y"):
        put(over, path, "new", 0o600)
    (over / "keep").symlink_to("was-file")
    stage.ok("org.kiln.overlay", {}, inputs={"tree": tree_input(over)})
    found = sorted(str(path.relative_to(stage.tree)) for path in stage.tree.rglob("*"))
    assert found == ["clear", "clear/new", "keep", "was-dir", "was-file", "was-file/y"]
    assert stage.mode("was-dir") == 0o600


@pytest.mark.root
def test_whiteouts_of_overlayfs_remove(stage: Stage, tmp_path: Path) -> None:
    put(stage.tree, "opt/gone/x", "old")
    (tmp_path / "over").mkdir()
    os.mknod(tmp_path / "over/gone", 0o20000, 0)
    put(tmp_path, "over/new", "new")
    stage.ok("org.kiln.overlay", {"path": "/opt"}, inputs={"tree": tree_input(tmp_path / "over")})
    assert sorted(path.name for path in (stage.tree / "opt").iterdir()) == ["new"]


def test_overlay_tells_cp_to_keep_everything(stage: Stage, tmp_path: Path) -> None:
    stage.fakes.add("cp")
    (tmp_path / "over").mkdir()
    stage.ok("org.kiln.overlay", {}, inputs={"tree": tree_input(tmp_path / "over")})
    argv = ["cp", "--archive", "--reflink=auto", "--no-target-directory", "--", str(tmp_path / "over"), str(stage.tree)]
    assert stage.fakes.calls == [argv]


@pytest.mark.root
def test_files_are_written_with_mode_and_owner(stage: Stage, tmp_path: Path) -> None:
    source = put(tmp_path, "in/sha256:00aa", "text", 0o600)
    outside = put(tmp_path, "outside", "old")
    (stage.tree / "etc").mkdir()
    (stage.tree / "etc/motd").symlink_to(outside)
    files = {
        "/etc/motd": {"from": source.name},
        "/opt/x/y": {"from": source.name, "mode": "4750", "user": 12, "group": 34},
    }
    stage.ok("org.kiln.files", {"files": files}, inputs={"files": files_input(source)}, umask=0o077)
    assert outside.read_text() == "old"
    assert (stage.read("etc/motd"), stage.mode("etc/motd")) == ("text", 0o644)
    status = (stage.tree / "opt/x/y").stat()
    assert (stage.mode("opt/x/y"), status.st_uid, status.st_gid) == (0o4750, 12, 34)
    assert stage.mode("opt/x") == 0o755
