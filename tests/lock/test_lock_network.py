"""The machine's own mirrors of Debian 12."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from lock_archive import resolution

from kiln.authoring.catalog.model import Base, Mirror
from kiln.authoring.lock.apt_room import AptRoom
from kiln.authoring.lock.document import lock_bytes, read_lock
from kiln.authoring.lock.indexes import IndexReader
from kiln.authoring.lock.keyrings import Keyrings
from kiln.authoring.lock.lock import make_lock
from kiln.authoring.lock.model import Lock
from kiln.authoring.lock.release import Freshness
from kiln.events.model import NullSink
from kiln.fetch.client import Fetcher
from kiln.fetch.mirrors import Mirrors

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get"),
]
KEYRING = "debian-archive-keyring.gpg"
SUITES = (("debian", "bookworm"), ("debian", "bookworm-updates"), ("debian-security", "bookworm-security"))
# A mirror may be frozen; what is tested here does not depend on the day.
FRESHNESS = Freshness(accept_expired=True)


def debian() -> Base:
    return Base(
        id="debian-12",
        title="Debian 12",
        family="deb",
        distribution="debian",
        codename="bookworm",
        version="12",
        architectures=("amd64",),
        mirrors=tuple(Mirror(mirror, suite, ("main",), KEYRING) for mirror, suite in SUITES),
        packages=("apt", "systemd-sysv", "dbus", "udev"),
        kernels=(("cloud", "linux-image-cloud-amd64"),),
        default_kernel="cloud",
        boot_packages=("grub-pc-bin", "grub-efi-amd64-bin"),
        build_root_packages=("python3", "squashfs-tools", "e2fsprogs", "dosfstools", "mtools"),
        default_disk_bytes=4 << 30,
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("network")


def make(cache: Path) -> Lock:
    features = {"docker.io": "docker", "openssh-server": "ssh", "prometheus-node-exporter": "monitoring"}
    asked = resolution(debian(), features, kernel="linux-image-cloud-amd64")
    with Fetcher(Mirrors.of_this_machine({}), NullSink()) as fetcher:
        return make_lock(asked, architecture="amd64", fetcher=fetcher, keyrings=Keyrings(), cache=cache,
                         sink=NullSink(), now=datetime.now(UTC), freshness=FRESHNESS)  # fmt: skip


def test_debian_12_is_locked_the_same_twice(cache: Path) -> None:
    first, second = make(cache), make(cache)
    assert lock_bytes(first) == lock_bytes(second)
    assert read_lock(lock_bytes(first), "kiln.lock") == first
    names = {package.name for package in first.tree("image").packages}
    assert {"docker.io", "containerd", "openssh-server", "libc6", "dpkg", "apt", "grub-pc-bin"} <= names
    assert "debconf-utils" not in names
    assert all(package.reason != "solver" for tree in first.trees for package in tree.packages)
    assert len(first.indexes[0].signed_by) >= 1


def test_apts_simulation_chooses_the_same_packages(cache: Path) -> None:
    lock = make(cache)
    with Fetcher(Mirrors.of_this_machine({}), NullSink()) as fetcher:
        reader = IndexReader(fetcher, Keyrings(), cache, NullSink(), datetime.now(UTC), freshness=FRESHNESS)
        room = AptRoom(cache / "apt", reader.read(debian().mirrors, "amd64"), "amd64")
    room.prepare()
    for tree in lock.trees:
        roots = [package.name for package in tree.packages if " > " not in package.reason]
        done = subprocess.run(
            ["apt-get", "-q", "--simulate", "-o", "APT::Install-Recommends=false", "install", "--", *roots],
            env=dict(room.environment()),
            capture_output=True,
            text=True,
            check=True,
        )
        simulated = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("Inst ")}
        assert simulated == {package.name for package in tree.packages}
