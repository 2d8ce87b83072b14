"""Mistakes in unlocked manifests: place, what was expected, what is there, and what would put it right."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lock_archive import NOW, SUITE, Archive, Bench, Signer, deb

from kiln.authoring.catalog.model import Base, Mirror
from kiln.authoring.lock.solver import AptSolver
from kiln.authoring.lock.trees import Offer, read_offer
from kiln.authoring.unlocked.lock import Diagnosis, diagnose, locked_form
from kiln.authoring.unlocked.lower import origin_of
from kiln.authoring.unlocked.model import Unlocked
from kiln.authoring.unlocked.read import is_unlocked, looks_like_manifest, read_manifest
from kiln.engine.manifest.load import load
from kiln.engine.manifest.modules import Modules
from kiln.engine.manifest.validate import validate
from kiln.errors import KilnError

LIBDIR = Path(__file__).parents[2] / "libdir"
MODULES = Modules(LIBDIR)
UUID = "6e4ff95f-f662-45ee-a82a-bdf44a2d0b75"
MIB = 1024 * 1024
STANZAS = [
    deb("base-files", Essential="yes"),
    deb("dash", Priority="required"),
    deb("less", Priority="important"),
    deb("apt"),
    deb("linux-cloud"),
    deb("linux-image-test"),
    deb("systemd-sysv"),
    deb("grub-efi-amd64"),
    deb("tool"),
    deb("ostree"),
    deb("tcl-dev"),
    deb("mawk", Provides="awk"),
]
PLAIN: dict[str, Any] = {
    "version": "2",
    "pipelines": [
        {
            "name": "build",
            "runner": "org.osbuild.linux",
            "stages": [
                {"name": "org.osbuild.debian.debootstrap", "options": {"suite": SUITE, "variant": "minbase"}},
                {"name": "org.osbuild.apt", "options": {"packages": ["less"]}},
            ],
        }
    ],
    "assembler": {"name": "org.osbuild.tar", "options": {"filename": "t.tar"}},
}
DISK: dict[str, Any] = {
    "name": "org.osbuild.qemu",
    "options": {
        "format": "qcow2",
        "filename": "d.qcow2",
        "size": "1G",
        "ptuuid": UUID,
        "partitions": [
            {"name": "esp", "start": MIB, "size": 64 * MIB, "type": "fat32", "mountpoint": "/boot/efi"},
            {"name": "root", "start": 65 * MIB, "size": 900 * MIB, "type": "ext4", "mountpoint": "/"},
        ],
    },
}


def bootable(packages: Sequence[str] = ("linux-image-test", "systemd-sysv")) -> dict[str, Any]:
    document = copy.deepcopy(PLAIN)
    stages = document["pipelines"][0]["stages"]
    stages[1]["options"]["packages"] = list(packages)
    stages.append({"name": "org.osbuild.grub2", "options": {"root_fs_uuid": UUID, "uefi": {"vendor": "debian"}}})
    document["assembler"] = copy.deepcopy(DISK)
    return document


class Room:
    """An archive and everything that locks a manifest from it."""

    def __init__(self, path: Path) -> None:
        self.bench = Bench(Archive(Signer(), STANZAS), path)
        kernels = (("cloud", "linux-image-test"),)
        self.base: Base = self.bench.base(build_root_packages=("tool",), kernels=kernels)
        self.solver = AptSolver(self.bench.cache / "apt", "amd64")
        self.asked_of: list[tuple[Mirror, ...]] = []

    def read(self, mirrors: tuple[Mirror, ...], urls: tuple[tuple[str, str], ...]) -> Offer:
        self.asked_of.append(mirrors)
        here = tuple(replace(mirror, mirror="test") for mirror in mirrors)
        bench = self.bench
        return read_offer(
            here, "amd64", fetcher=bench.fetcher, keyrings=bench.keyrings, cache=bench.cache, sink=bench.sink, now=NOW
        )

    def diagnose(self, document: Any) -> Diagnosis:
        return diagnose(manifest(document), [self.base], self, self.solver)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    if shutil.which("apt-get") is None:
        pytest.skip("needs apt-get")
    return Room(tmp_path)


def manifest(document: Any) -> Unlocked:
    return read_manifest(json.dumps(document, indent=1).encode(), "m.json", MODULES)


def refusal(document: Any) -> KilnError:
    with pytest.raises(KilnError) as caught:
        manifest(document)
    return caught.value


def test_a_sound_manifest_has_no_findings_and_a_locked_form_that_is_valid(room: Room) -> None:
    found = room.diagnose(PLAIN)
    assert found.findings == ()
    plan = locked_form(found, room.solver, "sha256:x", tuple)
    validate(plan, MODULES)
    assert [pipeline.name for pipeline in load(plan).pipelines] == ["tools", "build", "assembler"]
    assert not is_unlocked(plan)
    assert origin_of(plan) == "sha256:x"
    names = {
        item["path"].rpartition("/")[2].partition("_")[0]
        for item in plan["sources"]["org.kiln.mirror"]["items"].values()
    }
    assert names == {"base-files", "dash", "apt", "less", "tool"}


def test_the_variant_decides_about_packages_that_nobody_named(room: Room) -> None:
    document = copy.deepcopy(PLAIN)
    document["pipelines"][0]["stages"] = document["pipelines"][0]["stages"][:1]
    names = [package.name for package in room.diagnose(document).trees["build"].packages]
    assert names == ["apt", "base-files", "dash"]
    del document["pipelines"][0]["stages"][0]["options"]["variant"]
    names = [package.name for package in room.diagnose(document).trees["build"].packages]
    assert names == ["apt", "base-files", "dash", "less"]


def test_a_partition_past_its_disk_is_made_to_fit(room: Room) -> None:
    document = bootable()
    document["assembler"]["options"]["partitions"][1]["size"] = 976 * MIB
    (finding,) = room.diagnose(document).findings
    assert finding.where == ".assembler.options.partitions[1].size"
    assert f"{17 * MIB:,} bytes past its disk" in finding.got
    assert finding.change is not None
    assert finding.change.value == (1024 - 65 - 1) * MIB
    assert room.diagnose(document).fixed.document["assembler"]["options"]["partitions"][1]["size"] == 958 * MIB


@pytest.mark.parametrize(
    ("partition", "key", "value"),
    [
        (0, "start", 512),
        (1, "start", 64 * MIB),
        (1, "start", 65 * MIB + 1),
        (1, "size", 900 * MIB + 3),
        (1, "size", 959 * MIB),
    ],
)
def test_partitions_that_overlap_or_are_not_aligned(room: Room, partition: int, key: str, value: int) -> None:
    document = bootable()
    document["assembler"]["options"]["partitions"][partition][key] = value
    found = room.diagnose(document)
    assert f".assembler.options.partitions[{partition}].{key}" in [finding.where for finding in found.findings]
    assert room.diagnose(found.fixed.document).findings == ()


@pytest.mark.parametrize(
    ("password", "good"),
    [
        ("$6$rounds=656000$...", False),
        ("$6$salt$" + "a" * 86, True),
        ("$6$rounds=656000$salt$" + "a" * 86, True),
        ("$6$salt$" + "a" * 85, False),
        ("$5$salt$" + "/" * 43, True),
        ("$y$j9T$abc$" + "." * 43, True),
        ("$2b$12$" + "a" * 53, True),
        ("$2y$12$" + "a" * 52, False),
        ("!", True),
        ("*", True),
        ("", True),
        ("secret", False),
        ("$6$", False),
    ],
)
def test_password_hashes(room: Room, password: str, good: bool) -> None:
    document = copy.deepcopy(PLAIN)
    users = {"name": "org.osbuild.users", "options": {"users": {"debian": {"password": password}}}}
    document["pipelines"][0]["stages"].append(users)
    found = room.diagnose(document)
    assert (found.findings == ()) == good
    for finding in found.findings:
        assert finding.where == ".pipelines[0].stages[2].options.users.debian.password"
        # A text that is no hash may be the password itself.
        assert "secret" not in finding.expected + finding.got + finding.advice
        stage = found.fixed.document["pipelines"][0]["stages"][2]
        assert stage["options"]["users"]["debian"]["password"] == "!"


def test_an_unknown_package_gets_the_nearest_name(room: Room) -> None:
    found = room.diagnose(bootable(["grub2-efi-amd64", "linux-image-test", "systemd-sysv"]))
    (finding,) = found.findings
    assert (finding.reason, finding.where) == ("unknown-package", ".pipelines[0].stages[1].options.packages[0]")
    assert finding.change is not None
    assert finding.change.value == "grub-efi-amd64"
    assert "grub-efi-amd64" in {package.name for package in found.trees["build"].packages}


def test_a_package_like_no_other_is_for_a_person_to_decide(room: Room) -> None:
    with pytest.raises(KilnError) as caught:
        room.diagnose(bootable(["qqqqqqqqqqqqqqqqqq"]))
    assert caught.value.reason == "unknown-package"
    assert "for a person" in caught.value.hint


def test_a_virtual_package_is_no_mistake(room: Room) -> None:
    document = copy.deepcopy(PLAIN)
    document["pipelines"][0]["stages"][1]["options"]["packages"] = ["awk"]
    assert room.diagnose(document).findings == ()


def test_a_disk_that_shall_boot_gets_a_kernel_and_process_1(room: Room) -> None:
    found = room.diagnose(bootable(["less"]))
    assert [finding.reason for finding in found.findings] == ["no-kernel", "no-init"]
    packages = found.fixed.document["pipelines"][0]["stages"][1]["options"]["packages"]
    assert packages == ["less", "linux-image-test", "systemd-sysv"]
    assert room.diagnose(found.fixed.document).findings == ()


def test_a_bootable_disk_becomes_pipelines_without_mounts(room: Room) -> None:
    plan = locked_form(room.diagnose(bootable()), room.solver, "sha256:x", tuple)
    validate(plan, MODULES)
    assert [pipeline["name"] for pipeline in plan["pipelines"]] == ["tools", "build", "build-disk", "build-image"]
    table = plan["pipelines"][2]["stages"][1]["options"]
    assert table["uuid"] == UUID
    assert [(item["start"], item["size"]) for item in table["partitions"]] == [(MIB, 64 * MIB), (65 * MIB, 900 * MIB)]
    assert "assembler" not in plan


def test_the_nearest_suite_is_proposed(room: Room) -> None:
    document = copy.deepcopy(PLAIN)
    document["pipelines"][0]["stages"][0]["options"]["suite"] = "testing-siute"
    (finding,) = room.diagnose(document).findings
    assert finding.change is not None
    assert (finding.where, finding.change.value) == (".pipelines[0].stages[0].options.suite", SUITE)


def test_apt_without_a_base_and_two_bases_are_refused(room: Room) -> None:
    document = copy.deepcopy(PLAIN)
    stages = document["pipelines"][0]["stages"]
    document["pipelines"][0]["stages"] = stages[1:]
    with pytest.raises(KilnError) as caught:
        room.diagnose(document)
    assert caught.value.reason == "no-base"
    document["pipelines"][0]["stages"] = [*stages, stages[0]]
    with pytest.raises(KilnError) as caught:
        room.diagnose(document)
    assert caught.value.reason == "two-bases"


def test_a_url_stands_for_the_mirror_of_this_run_alone(room: Room) -> None:
    document = copy.deepcopy(PLAIN)
    document["pipelines"][0]["stages"][0]["options"]["mirror"] = "http://127.0.0.1:9/x"
    found = room.diagnose(document)
    assert found.sets[0].urls == (("test", "http://127.0.0.1:9/x"),)
    plan = json.dumps(locked_form(found, room.solver, "sha256:x", tuple))
    assert "127.0.0.1" not in plan


def test_places_are_those_of_the_text() -> None:
    error = refusal(
        {"version": "2", "pipelines": [{"name": "a", "stages": [{"name": "org.osbuild.debian.debootstrap"}]}]}
    )
    assert (error.reason, error.place.line if error.place else 0) == ("invalid-manifest", 7)
    assert error.place is not None
    assert error.place.path == ".pipelines[0].stages[0].options"


def test_every_wrong_option_is_named_at_once() -> None:
    document = copy.deepcopy(PLAIN)
    document["pipelines"][0]["stages"][0]["options"]["varient"] = "minbase"
    document["pipelines"][0]["stages"][1]["options"]["packages"] = ["a b", "-x"]
    document["assembler"]["options"]["compresion"] = "gzip"
    error = refusal(document)
    for word in ("varient", "a b", "-x", "compresion"):
        assert word in error.detail


def test_a_misspelt_stage_gets_a_suggestion() -> None:
    document = copy.deepcopy(PLAIN)
    document["pipelines"][0]["stages"].append({"name": "org.osbuild.user", "options": {}})
    assert "org.osbuild.users" in refusal(document).detail


def test_what_is_a_manifest() -> None:
    assert looks_like_manifest(json.dumps(PLAIN).encode())
    assert not looks_like_manifest(b'{"base": "debian-12"}')
    assert not looks_like_manifest(b'{"pipelines": ')
    assert not looks_like_manifest(b'["pipelines"]')


@pytest.mark.parametrize("document", [[], {}, {"pipelines": 3}, {"pipelines": [3, {"stages": 3}, {"stages": [4]}]}])
def test_anything_may_be_asked_whether_it_is_locked(document: Any) -> None:
    if isinstance(document, dict):
        assert not is_unlocked(document)
