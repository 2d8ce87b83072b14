"""The road for real: mirrors, sandboxes, a virtual machine."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from road_kiln import RECIPE, BuiltImage, Kiln, children_cpu_seconds

pytestmark = [pytest.mark.root, pytest.mark.network, pytest.mark.vm]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def test_the_summary_names_artifacts_by_their_true_digests(small_image: BuiltImage) -> None:
    assert small_image.summary["test"]["verdict"] == "pass"
    assert {item["role"] for item in small_image.summary["artifacts"]} == {"disk", "root"}
    for item in small_image.summary["artifacts"]:
        assert sha256(small_image.directory / item["name"]) == item["digest"]


def test_the_disk_boots_by_both_firmwares_and_holds_the_root(small_image: BuiltImage, tmp_path: Path) -> None:
    raw = tmp_path / "disk.raw"
    subprocess.run(
        ["qemu-img", "convert", "-O", "raw", str(small_image.directory / "small.qcow2"), str(raw)], check=True
    )
    table = json.loads(subprocess.run(["sfdisk", "--json", str(raw)], check=True, capture_output=True).stdout)
    partitions = table["partitiontable"]["partitions"]
    assert [item["name"] for item in partitions] == ["bios", "esp", "root"]
    with raw.open("rb") as file:
        assert b"GRUB" in file.read(440)
        file.seek(partitions[1]["start"] * 512 + 82)
        assert file.read(5) == b"FAT32"
        file.seek(partitions[2]["start"] * 512 + 1024 + 56)
        assert file.read(2) == b"\x53\xef"  # ext4's magic number


def test_no_secret_and_no_identity_is_in_the_image(small_image: BuiltImage) -> None:
    names = (small_image.directory / "squashfs-hashes.sha256").read_text()
    assert "ssh_host_" not in names
    assert "./var/lib/systemd/random-seed" not in names
    empty = hashlib.sha256(b"").hexdigest()
    assert f"{empty}  ./etc/machine-id\n" in names


def test_verify_accepts_what_build_made(small_image: BuiltImage) -> None:
    done = small_image.kiln.run("verify", "images/small")
    assert done.returncode == 0, done.stdout


def test_one_flipped_byte_in_any_file_is_named(small_image: BuiltImage) -> None:
    files = sorted(path for path in small_image.directory.rglob("*") if path.is_file())
    assert len(files) > 20
    for path in files:
        if path.stat().st_size == 0:
            continue
        position = path.stat().st_size // 2
        stamp = path.stat()
        with path.open("r+b") as file:
            file.seek(position)
            (byte,) = file.read(1)
            file.seek(position)
            file.write(bytes([byte ^ 1]))
        try:
            done = small_image.kiln.run("verify", "images/small", "--json")
            name = str(path.relative_to(small_image.directory))
            assert done.returncode == 4, name
            assert name in {finding["component"] for finding in json.loads(done.stdout)["findings"]}, name
        finally:
            with path.open("r+b") as file:
                file.seek(position)
                file.write(bytes([byte]))
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


def test_a_key_of_another_machine_is_not_trusted(small_image: BuiltImage, tmp_path: Path) -> None:
    stranger = Kiln(small_image.kiln.directory, tmp_path / "state")
    assert stranger.run("verify", "images/small").returncode == 4
    assert stranger.run("verify", "images/small", "--key", "images/small/kiln.pub").returncode == 0


def test_a_second_run_does_no_work(small_image: BuiltImage) -> None:
    before = children_cpu_seconds()
    summary = small_image.kiln.json("build", "small.json", "--json")
    spent = children_cpu_seconds() - before
    assert spent * 40 < small_image.cpu_seconds
    cached = {step["step"]: step["cached"] for step in summary["steps"]}
    assert [step for step in ("lock", "build", "test", "attest") if not cached[step]] == []
    assert summary["recordId"] == small_image.summary["recordId"]


def test_after_a_lost_artifact_only_the_export_is_done_again(small_image: BuiltImage) -> None:
    digest = sha256(small_image.directory / "small.squashfs")
    (small_image.directory / "small.squashfs").unlink()
    summary = small_image.kiln.json("build", "small.json", "--json")
    assert summary["stages"]["run"] == 0
    assert sha256(small_image.directory / "small.squashfs") == digest
    assert {step["step"]: step["cached"] for step in summary["steps"]}["test"]
    assert small_image.kiln.run("verify", "images/small").returncode == 0


def test_a_killed_build_loses_nothing_but_the_stage_it_was_in(small_image: BuiltImage, tmp_path: Path) -> None:
    """And the same lock from an empty store gives the same bytes."""
    kiln = Kiln(tmp_path, tmp_path / "state")
    (tmp_path / "small.json").write_text(json.dumps(RECIPE))
    (tmp_path / "images/small").mkdir(parents=True)
    shutil.copy(small_image.directory / "kiln.lock", tmp_path / "images/small/kiln.lock")
    arguments = kiln.command("build", "small.json", "--progress", "json")
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=kiln.environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            event = json.loads(line)
            if event["event"] == "stage-started" and event["pipeline"] == "os":
                os.killpg(process.pid, signal.SIGKILL)
                break
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not list((tmp_path / "images/small").glob("small.*"))
    summary = kiln.json("build", "small.json", "--json")
    assert summary["stages"]["fromStore"] >= 1
    assert [item["digest"] for item in summary["artifacts"]] == [
        item["digest"] for item in small_image.summary["artifacts"]
    ]
    for name in ("sbom.cdx.json", "sbom.spdx.json", "squashfs-hashes.sha256", "dpkg-manifest", "plan.json"):
        assert (tmp_path / "images/small" / name).read_bytes() == (small_image.directory / name).read_bytes(), name


def test_the_records_tell_of_the_build(small_image: BuiltImage) -> None:
    records = small_image.kiln.json("records", "list", "--json")
    assert records[-1]["run"]["verdict"] == "pass"
    assert small_image.kiln.run("records", "check").returncode == 0


def test_sbom_lists_every_locked_package(small_image: BuiltImage) -> None:
    lock = json.loads((small_image.directory / "kiln.lock").read_bytes())
    tree = next(tree for tree in lock["trees"] if tree["name"] == "image")
    sbom = json.loads(small_image.kiln.run("sbom", "images/small", "--format", "cyclonedx").stdout)
    assert len(sbom["components"]) == len(tree["packages"])
