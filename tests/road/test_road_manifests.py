"""The three classic manifests, as people write them, for real: what they get, and what they are told."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from console import boot, disk, uefi
from road_kiln import Kiln

MANIFESTS = Path(__file__).parent / "manifests"
MIB = 1024 * 1024

pytestmark = [pytest.mark.root, pytest.mark.network]


@pytest.fixture(scope="module")
def classics(tmp_path_factory: pytest.TempPathFactory) -> Kiln:
    """The manifests in a directory of their own, and a state that the tests here share."""
    directory = tmp_path_factory.mktemp("classics")
    for path in MANIFESTS.iterdir():
        shutil.copy(path, directory)
    return Kiln(directory, directory / "state")


def output(*argv: str | Path) -> str:
    done = subprocess.run(list(map(str, argv)), check=True, capture_output=True, text=True, errors="replace")
    return done.stdout


def test_mistakes_are_told_with_place_and_proposal_and_nothing_is_written(classics: Kiln) -> None:
    error = classics.refusal("build", "classic-1-tar.json")
    assert (error["reason"], error["exitStatus"], error["place"]["line"]) == ("bad-password-hash", 2, 10)
    error = classics.refusal("build", "classic-2-qcow2.json")
    assert error["exitStatus"] == 2
    assert "10466885632" in error["detail"]
    assert "17,825,792 bytes past its disk" in error["detail"]
    assert "change:   .pipelines[0].stages[1].options.packages[0] = 'grub-efi-amd64'" in error["detail"]
    assert "'systemd-sysv'" in error["detail"]
    assert "--fix" in error["hint"]
    assert {path.name for path in classics.directory.iterdir()} - {"state"} == {
        path.name for path in MANIFESTS.iterdir()
    }


@pytest.mark.full
def test_the_tar_has_what_was_asked_for(classics: Kiln) -> None:
    built = classics.json("build", "classic-1-tar.json", "--fix", "--json")
    archive = Path(built["directory"]) / "debian-basic.tar.gz"
    assert archive.read_bytes()[:2] == b"\x1f\x8b"
    names = set(output("tar", "-tzf", archive).splitlines())
    assert {"./usr/bin/sudo", "./usr/sbin/sshd", "./home/debian/"} <= names
    assert not [name for name in names if "ssh_host_" in name]
    shadow = output("tar", "-xzOf", archive, "./etc/shadow")
    assert "\ndebian:!:" in shadow
    again = classics.json("build", "classic-1-tar.json", "--fix", "--json")
    assert (again["stages"]["run"], again["artifacts"]) == (0, built["artifacts"])
    # The locked form is a plan of its own, for the engine alone as well.
    command = [*classics.command(), "--store", classics.state / "other", "--output-directory", classics.directory / "x"]
    program = str(command[0]) + "-osbuild"
    locked = classics.directory / "classic-1-tar.locked.json"
    subprocess.run(
        [program, *map(str, command[1:]), "--export", "assembler", str(locked)], check=True, capture_output=True
    )
    other = classics.directory / "x/assembler/debian-basic.tar.gz"
    assert hashlib.sha256(other.read_bytes()).digest() == hashlib.sha256(archive.read_bytes()).digest()


@pytest.mark.full
@pytest.mark.vm
def test_the_disk_is_as_described_and_boots_to_a_login(classics: Kiln, tmp_path: Path) -> None:
    built = classics.json("build", "classic-2-qcow2.json", "--fix", "--json")
    image, raw = Path(built["directory"]) / "debian-bootable.qcow2", tmp_path / "d.raw"
    output("qemu-img", "check", image)
    output("qemu-img", "convert", "-O", "raw", image, raw)
    table = json.loads(output("sfdisk", "--json", raw))["partitiontable"]
    assert raw.stat().st_size == 10 * 1024 * MIB
    assert (table["label"], table["id"].lower()) == ("gpt", "12345678-1234-1234-1234-123456789012")
    places = [(part["name"], part["start"] * 512, part["size"] * 512) for part in table["partitions"]]
    assert places == [("esp", MIB, 256 * MIB), ("root", 257 * MIB, 10466885632)]
    with raw.open("rb") as file:
        file.seek(MIB + 82)
        assert file.read(5) == b"FAT32"
    root = tmp_path / "root.ext4"
    output("dd", f"if={raw}", f"of={root}", "bs=1M", "skip=257", "count=9982", "conv=sparse", "status=none")
    assert "6e4ff95f-f662-45ee-a82a-bdf44a2d0b75" in output("dumpe2fs", "-h", root)
    output("e2fsck", "-f", "-n", root)
    root.unlink()
    raw.unlink()
    assert "login:" in boot([*uefi(tmp_path), *disk(image)], tmp_path)


@pytest.mark.full
def test_the_repository_is_whole_and_a_second_machine_makes_the_same_commit(classics: Kiln, tmp_path: Path) -> None:
    if shutil.which("ostree") is None:
        pytest.skip("needs ostree")
    commits = []
    for machine in (classics, Kiln(tmp_path, tmp_path / "state")):
        for name in ("classic-3-ostree.json", "classic-3-ostree.locked.json"):
            if machine is not classics and (classics.directory / name).exists():
                shutil.copy(classics.directory / name, tmp_path)  # the same lock, another machine
        built = machine.json("build", "classic-3-ostree.json", "--json")
        repository = Path(built["directory"]) / "debian-ostree"
        output("ostree", "fsck", "--repo", repository)
        commits.append(output("ostree", "rev-parse", "--repo", repository, "debian/bookworm/x86_64/standard"))
    assert commits[0] == commits[1]
