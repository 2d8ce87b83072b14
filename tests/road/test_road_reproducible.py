"""The same lock on two machines that have nothing in common: every format has the same bytes."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from road_kiln import Kiln

pytestmark = [pytest.mark.full, pytest.mark.root, pytest.mark.network]

UUID = "6e4ff95f-f662-45ee-a82a-bdf44a2d0b75"
MIB = 1024 * 1024
TREE = {"tree": {"type": "org.osbuild.tree", "origin": "org.osbuild.pipeline", "references": ["name:os"]}}
EXT4 = {"filename": "disk.raw", "start": MIB, "size": 640 * MIB, "uuid": UUID, "hash-seed": UUID}
STAGES: dict[str, tuple[str, dict[str, Any], Mapping[str, Any]]] = {
    "tar": ("org.osbuild.tar", {"filename": "x.tar"}, TREE),
    "tar-gz": ("org.osbuild.tar", {"filename": "x.tar.gz"}, TREE),
    "tar-xz": ("org.osbuild.tar", {"filename": "x.tar.xz"}, TREE),
    "tar-zst": ("org.osbuild.tar", {"filename": "x.tar.zst"}, TREE),
    "oci": ("org.kiln.oci", {"filename": "x.oci.tar", "architecture": "amd64"}, TREE),
    "squashfs": (
        "org.osbuild.squashfs",
        {"filename": "x.squashfs", "compression": {"method": "zstd", "options": {"level": 6}}},
        TREE,
    ),
    "erofs": ("org.osbuild.erofs", {"filename": "x.erofs", "compression": {"method": "lz4hc"}}, TREE),
    **{
        kind: ("org.kiln.disk-image", {"filename": f"x.{kind}", "format": kind, "uuid": UUID}, {})
        for kind in ("vmdk", "vdi", "vhdx", "vhd")
    },
    **{
        kind: ("org.kiln.appliance", {"filename": f"x.{kind}.tar", "kind": kind, "name": "x", "uuid": UUID}, {})
        for kind in ("ova", "vagrant", "gcp")
    },
    "qcow2": ("org.osbuild.qemu", {"filename": "x.qcow2", "format": {"type": "qcow2", "compat": "1.1"}}, {}),
}


def file_input(name: str, pipeline: str, file: str) -> dict[str, Any]:
    references = {f"name:{pipeline}": {"file": file}}
    return {name: {"type": "org.osbuild.files", "origin": "org.osbuild.pipeline", "references": references}}


def manifest() -> dict[str, Any]:
    base = {"type": "org.osbuild.debian.debootstrap", "options": {"suite": "bookworm", "variant": "minbase"}}
    apt = {"type": "org.osbuild.apt", "options": {"packages": ["systemd-sysv", "openssh-server"]}}
    disk = [
        {"type": "org.osbuild.truncate", "options": {"filename": "disk.raw", "size": f"{642 * MIB}"}},
        {"type": "org.kiln.ext4", "inputs": TREE, "options": EXT4},
    ]
    pipelines: list[dict[str, Any]] = [{"name": "os", "stages": [base, apt]}, {"name": "disk", "stages": disk}]
    for name, (stage, options, inputs) in STAGES.items():
        given = inputs or file_input("image", "disk", "disk.raw")
        pipelines.append({"name": name, "stages": [{"type": stage, "inputs": given, "options": options}]})
    verity = {
        "type": "org.kiln.verity",
        "inputs": file_input("data", "squashfs", "x.squashfs"),
        "options": {"filename": "x.verity", "root-hash-file": "/x.roothash"},
    }
    pipelines.append({"name": "verity", "stages": [verity]})
    exports = [{"name": name} for name in (*STAGES, "verity")]
    return {"version": "2", "metadata": {"exports": exports}, "pipelines": pipelines}


def digests(kiln: Kiln, file: str, **options: Any) -> dict[str, str]:
    done = kiln.run("build", file, "--json", **options)
    assert done.returncode == 0, done.stderr[-2000:]
    built = json.loads(done.stdout)
    assert built["stages"]["run"] >= len(STAGES)
    return {item["name"]: item["digest"] for item in built["artifacts"]}


def test_path_host_name_processors_umask_language_and_clock_change_no_byte(tmp_path: Path) -> None:
    first = Kiln(tmp_path, tmp_path / "state")
    (tmp_path / "formats.json").write_text(json.dumps(manifest()))
    expected = digests(first, "formats.json")
    elsewhere = tmp_path / "quite another/place with spaces"
    elsewhere.mkdir(parents=True)
    second = Kiln(elsewhere, elsewhere / "st")
    shutil.copy(tmp_path / "formats.locked.json", elsewhere)
    script = 'hostname elsewhere; umask 077; exec taskset --cpu-list 0 "$@"'
    wrapper = ["unshare", "--uts", "sh", "-ec", script, "sh"]
    if shutil.which("faketime") is not None:
        wrapper += ["faketime", "-f", "+400d"]
    other = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "LANG": "tr_TR.UTF-8", "HOME": "/nonexistent"}
    # The packages are there already: a clock of another year is no clock for a mirror's certificate.
    (elsewhere / "st/store").mkdir(parents=True)
    subprocess.run(["cp", "-a", str(tmp_path / "state/store/sources"), str(elsewhere / "st/store/sources")], check=True)
    assert digests(second, "formats.locked.json", env=other, wrapper=wrapper) == expected
    assert len(expected) == len(STAGES) + 2
