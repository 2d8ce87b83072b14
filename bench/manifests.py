"""The manifests that are built."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

UUID: Final = "5d0e1c52-6a5f-4d1b-9c0e-1f0f6b1b7a11"
EPOCH: Final = 1_700_000_000
DISK_BYTES: Final = 1 << 30
ROOTS: Final = ("/etc", "/usr/share/zoneinfo", "/usr/lib/systemd", "/usr/sbin", "/usr/lib/python3.11", "/usr/bin")
TREE_BYTES: Final = 194 << 20
"""What debootstrap makes of Debian 12."""


def noops(count: int, **more: Any) -> dict[str, Any]:
    """One pipeline of stages that do nothing."""
    stages = [{"type": "org.osbuild.noop", "options": {"number": number}, **more} for number in range(count)]
    return {"version": "2", "pipelines": [{"name": "a", "stages": stages}]}


def noops_with_input(count: int) -> dict[str, Any]:
    """The same, and each stage is given a file."""
    name = "sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of "x"
    entry = {"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": [name]}
    manifest = noops(count, inputs={"file": entry})
    manifest["sources"] = {"org.osbuild.inline": {"items": {name: {"encoding": "base64", "data": "eA=="}}}}
    return manifest


def compressions(count: int) -> dict[str, Any]:
    """Pipelines that each compress 256 MB, which one processor does."""
    zeros = {"name": "zeros", "stages": [_stage("truncate", {"filename": "zeros", "size": "256M"})]}
    pipelines = [
        {
            "name": f"gzip-{number}",
            "stages": [
                _stage("gzip", {"filename": f"{number}.gz", "level": 1}, inputs={"file": _file("zeros", "zeros")})
            ],
        }
        for number in range(count)
    ]
    return {"version": "2", "pipelines": [zeros, *pipelines]}


def debian_image(archive: str) -> dict[str, Any]:
    """A Debian tree, configured in eight stages, as a disk, qcow2, tar, OCI archive and squashfs."""
    source = {"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": [archive]}
    start = 2048
    size = DISK_BYTES // 512 - 2 * start
    device = {"type": "org.osbuild.loopback", "options": {"filename": "disk.img", "start": start, "size": size}}
    whole = {"type": "org.osbuild.loopback", "options": {"filename": "disk.img"}}
    mount = {"name": "root", "type": "org.osbuild.ext4", "source": "device", "target": "/"}
    table = {"label": "gpt", "uuid": UUID, "partitions": [{"start": start, "size": size, "uuid": UUID}]}
    copy = {"paths": [{"from": "input://tree/", "to": "mount://root/"}]}
    tree = {"tree": _tree("os")}
    compression = {"filename": "os.squashfs", "compression": {"method": "lz4"}}
    pipelines: list[dict[str, Any]] = [
        {
            "name": "os",
            "source-epoch": EPOCH,
            "stages": [_stage("untar", {}, inputs={"file": source}), *_configuration()],
        },
        {
            "name": "disk",
            "stages": [
                _stage("truncate", {"filename": "disk.img", "size": str(DISK_BYTES)}),
                _stage("sfdisk", table, devices={"device": whole}),
                _stage("mkfs.ext4", {"uuid": UUID, "label": "root"}, devices={"device": device}),
                _stage("copy", copy, inputs=tree, devices={"device": device}, mounts=[mount]),
            ],
        },
        {
            "name": "qcow2",
            "stages": [
                _stage(
                    "qemu",
                    {"filename": "disk.qcow2", "format": {"type": "qcow2", "compression": False}},
                    inputs={"image": _file("disk", "disk.img")},
                )
            ],
        },
        {"name": "tar", "stages": [_stage("tar", {"filename": "os.tar"}, inputs=tree)]},
        {
            "name": "oci",
            "stages": [
                _stage("oci-archive", {"filename": "os.oci", "architecture": "amd64"}, inputs={"base": _tree("os")})
            ],
        },
        {"name": "squashfs", "stages": [_stage("squashfs", compression, inputs=tree)]},
    ]
    # The file is put into both stores before: a download is not what is compared.
    sources = {"org.osbuild.curl": {"items": {archive: {"url": "http://localhost/tree.tar"}}}}
    return {"version": "2", "pipelines": pipelines, "sources": sources}


def _configuration() -> list[dict[str, Any]]:
    # A tree of files alone has none of these directories.
    paths = [
        {"path": f"/{path}", "parents": True, "exist_ok": True}
        for path in ("etc", "usr/lib/sysctl.d", "usr/lib/tmpfiles.d")
    ]
    entry = {"uuid": UUID, "path": "/", "vfs_type": "ext4", "options": "rw", "freq": 1, "passno": 1}
    return [
        _stage("mkdir", {"paths": paths}),
        _stage("hostname", {"hostname": "bench"}),
        _stage("locale", {"language": "C.UTF-8"}),
        _stage("timezone", {"zone": "Europe/Berlin"}),
        _stage("machine-id", {"first-boot": "yes"}),
        _stage("fstab", {"filesystems": [entry]}),
        _stage("sysctld", {"filename": "bench.conf", "config": [{"key": "kernel.panic", "value": "10"}]}),
        _stage("tmpfilesd", {"filename": "bench.conf", "config": [{"type": "d", "path": "/run/bench"}]}),
    ]


def files_of_this_machine() -> Iterator[Path]:
    """Yield files of this Debian, up to the size of a small one."""
    total = 0
    for root in ROOTS:
        for path in sorted(Path(root).rglob("*")):
            if path.is_symlink() or not path.is_file() or "__pycache__" in path.parts:
                continue
            total += path.stat().st_size
            if total > TREE_BYTES:
                return
            yield path


def _stage(name: str, options: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": f"org.osbuild.{name}", "options": options, **more}


def _tree(pipeline: str) -> dict[str, Any]:
    return {"type": "org.osbuild.tree", "origin": "org.osbuild.pipeline", "references": [f"name:{pipeline}"]}


def _file(pipeline: str, name: str) -> dict[str, Any]:
    references = {f"name:{pipeline}": {"file": name}}
    return {"type": "org.osbuild.files", "origin": "org.osbuild.pipeline", "references": references}
