"""Resolution to lock, and the document `kiln.lock`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lock_archive import NOW, Archive, Bench, Signer, deb, release_date, resolution

from kiln.authoring.catalog.model import Resolution
from kiln.authoring.lock.document import lock_bytes, lock_digest, read_lock
from kiln.authoring.lock.lock import make_lock
from kiln.authoring.lock.model import Lock
from kiln.errors import KilnError
from kiln.events.model import Progress
from kiln_wire.canonical import pretty_json
from kiln_wire.digest import Digest

SIGNER = Signer()
pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get")

STANZAS = [
    deb("base-files", Essential="yes", Depends="libc"),
    deb("libc", "2.1-3", Source="glibc (2.1-2)"),
    deb("apt", Depends="libc"),
    deb("docker", Depends="containerd"),
    deb("containerd", Depends="libc"),
    deb("linux-cloud", Depends="linux-cloud-1"),
    deb("linux-cloud-1"),
    deb("grub"),
    deb("mksquashfs", Depends="libc"),
]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Archive(SIGNER, STANZAS), tmp_path)


def wanted(bench: Bench, **changes: Any) -> Resolution:
    base = bench.base(packages=("apt",), boot_packages=("grub",), build_root_packages=("mksquashfs",))
    return replace(resolution(base, {"docker": "docker"}, kernel="linux-cloud"), **changes)


def make(bench: Bench, asked: Resolution | None = None, architecture: str = "amd64") -> Lock:
    return make_lock(
        asked or wanted(bench),
        architecture=architecture,
        fetcher=bench.fetcher,
        keyrings=bench.keyrings,
        cache=bench.cache,
        sink=bench.sink,
        now=NOW,
    )


def test_a_lock_has_two_trees_with_a_reason_for_each_package(bench: Bench) -> None:
    lock = make(bench)
    assert {package.name: package.reason for package in lock.tree("image").packages} == {
        "apt": "base test-1",
        "base-files": "essential",
        "containerd": "feature docker > docker > containerd",
        "docker": "feature docker",
        "grub": "boot test-1",
        "libc": "essential > base-files > libc",
        "linux-cloud": "kernel cloud",
        "linux-cloud-1": "kernel cloud > linux-cloud > linux-cloud-1",
    }
    assert {package.name: package.reason for package in lock.tree("build").packages} == {
        "base-files": "essential",
        "libc": "essential > base-files > libc",
        "mksquashfs": "build root test-1",
    }


def test_a_locked_package_is_complete(bench: Bench) -> None:
    libc = next(package for package in make(bench).tree("image").packages if package.name == "libc")
    assert (libc.version, libc.architecture, libc.source, libc.source_version) == ("2.1-3", "amd64", "glibc", "2.1-2")
    assert (libc.mirror, libc.suite, libc.path) == ("test", "testing-suite", "pool/main/l/libc/libc_2.1-3_amd64.deb")
    assert libc.digest == Digest.of(b"libc 2.1-3")
    assert libc.size_bytes == len(b"libc 2.1-3")
    assert libc.installed_size_bytes == 12 * 1024
    docker = next(package for package in make(bench).tree("image").packages if package.name == "docker")
    assert docker.depends == ("containerd",)


def test_the_epoch_is_the_newest_indexes_date_not_the_clock(bench: Bench) -> None:
    assert make(bench).epoch == int((NOW - timedelta(days=1)).timestamp())


def test_the_same_resolution_and_indexes_give_the_same_bytes(bench: Bench, tmp_path: Path) -> None:
    first = lock_bytes(make(bench))
    assert lock_bytes(make(bench)) == first
    other = Bench(bench.archive, tmp_path / "elsewhere")
    later = make_lock(wanted(other), architecture="amd64", fetcher=other.fetcher, keyrings=other.keyrings,
                      cache=other.cache, sink=other.sink, now=NOW + timedelta(days=3))  # fmt: skip
    assert lock_bytes(later) == first
    assert b"mirror.invalid" not in first


def test_a_changed_index_gives_another_lock(bench: Bench) -> None:
    first = make(bench)
    bench.archive.stanzas = [*STANZAS, deb("containerd", "1.1", Depends="libc")]
    bench.archive.publish(Date=release_date(NOW - timedelta(hours=5)))
    second = make(bench)
    assert lock_digest(second) != lock_digest(first)
    assert {package.version for package in second.tree("image").packages if package.name == "containerd"} == {"1.1"}


def test_an_excluded_package_of_the_base_is_left_out(bench: Bench) -> None:
    lock = make(bench, wanted(bench, excluded_packages=("apt",)))
    assert "apt" not in {package.name for package in lock.tree("image").packages}


def test_a_package_both_asked_for_and_excluded_is_a_contradiction(bench: Bench) -> None:
    with pytest.raises(KilnError) as caught:
        make(bench, wanted(bench, excluded_packages=("docker",)))
    assert caught.value.reason == "no-solution"
    assert "feature docker" in caught.value.message


def test_excluding_what_is_needed_is_refused_but_never_for_the_build_tree(bench: Bench) -> None:
    with pytest.raises(KilnError) as caught:
        make(bench, wanted(bench, excluded_packages=("libc",)))
    assert "libc is excluded" in caught.value.message
    assert "image tree" in caught.value.message


def test_an_architecture_that_the_base_lacks_is_refused(bench: Bench) -> None:
    with pytest.raises(KilnError) as caught:
        make(bench, architecture="arm64")
    assert caught.value.reason == "unknown-architecture"


def test_a_solver_that_leaves_out_a_dependency_is_not_believed(bench: Bench) -> None:
    class Forgetful:
        def __init__(self, missing: str) -> None:
            self.missing = missing

        def solve(self, universe: Any, _indexes: Any, _request: Any) -> list[Any]:
            names = [stanza["Package"] for stanza in STANZAS if stanza["Package"] != self.missing]
            return [record for name in names for record in universe.records(name)]

    for missing in ("libc", "docker"):
        with pytest.raises(KilnError, match="not whole") as caught:
            make_lock(wanted(bench), architecture="amd64", fetcher=bench.fetcher, keyrings=bench.keyrings,
                      cache=bench.cache, sink=bench.sink, now=NOW, solver=Forgetful(missing))  # fmt: skip
        assert caught.value.reason == "no-solution"


def test_progress_tells_files_then_packages(bench: Bench) -> None:
    make(bench)
    events = [event for event in bench.sink.events if isinstance(event, Progress)]
    assert {event.step for event in events} == {"lock"}
    assert events[0].unit == "files"
    assert events[-1].unit == "packages"
    assert events[-1].done == events[-1].total == 11


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Lock:
    return make(Bench(Archive(SIGNER, STANZAS), tmp_path_factory.mktemp("document")))


def test_a_lock_is_read_back(lock: Lock) -> None:
    data = lock_bytes(lock)
    assert read_lock(data, "kiln.lock") == lock
    assert json.loads(data)["kind"] == "kiln.lock/v1"
    assert list(json.loads(data)) == sorted(json.loads(data))
    assert lock_digest(lock) == Digest.of(data)


def package(document: dict[str, Any], number: int = 0) -> dict[str, Any]:
    found = document["trees"][1]["packages"][number]
    assert isinstance(found, dict)
    return found


def swap(items: list[Any]) -> None:
    items[0], items[1] = items[1], items[0]


TAMPERINGS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another kind": (lambda d: d.update(kind="kiln.lock/v2"), "$.kind"),
    "unknown key": (lambda d: d.update(extra=1), "$.extra"),
    "missing key": (lambda d: d.pop("epoch"), "$.epoch"),
    "other epoch": (lambda d: d.update(epoch=d["epoch"] + 1), "$.epoch"),
    "no index": (lambda d: d.update(indexes=[]), "$.indexes"),
    "index twice": (lambda d: d["indexes"].append(d["indexes"][0]), "$.indexes"),
    "nobody signed": (lambda d: d["indexes"][0].update(signedBy=[]), "$.indexes[0].signedBy"),
    "date with an offset": (
        lambda d: d["indexes"][0].update(date="2026-06-30T12:00:00+00:00"),
        "$.indexes[0].date",
    ),
    "a host as mirror": (lambda d: d["indexes"][0].update(mirror="http://x/y"), "$.indexes[0].mirror"),
    "unknown tree": (lambda d: d["trees"][0].update(name="other"), "$.trees[0].name"),
    "trees not sorted": (lambda d: swap(d["trees"]), "$.trees"),
    "tree twice": (lambda d: d["trees"].insert(0, d["trees"][0]), "$.trees"),
    "packages not sorted": (lambda d: swap(d["trees"][1]["packages"]), "$.trees[1].packages"),
    "package twice": (lambda d: d["trees"][1]["packages"].insert(0, package(d)), "$.trees[1].packages"),
    "path to the parent": (lambda d: package(d).update(path="pool/../../x"), "$.trees[1].packages[0].path"),
    "absolute path": (lambda d: package(d).update(path="/pool/x"), "$.trees[1].packages[0].path"),
    "name with a path": (lambda d: package(d).update(name="a/b"), "$.trees[1].packages[0].name"),
    "version with a space": (lambda d: package(d).update(version="1 2"), "$.trees[1].packages[0].version"),
    "foreign architecture": (lambda d: package(d).update(architecture="i386"), "$.trees[1].packages[0].architecture"),
    "unknown suite": (lambda d: package(d).update(suite="other"), "$.trees[1].packages[0].suite"),
    "digest in other spelling": (
        lambda d: package(d).update(digest=package(d)["digest"].upper()),
        "$.trees[1].packages[0].digest",
    ),
    "sha512": (lambda d: package(d).update(digest="sha512:" + "0" * 128), "$.trees[1].packages[0].digest"),
    "negative size": (lambda d: package(d).update(sizeBytes=-1), "$.trees[1].packages[0].sizeBytes"),
    "size as text": (lambda d: package(d).update(sizeBytes="3"), "$.trees[1].packages[0].sizeBytes"),
    "no reason": (lambda d: package(d).update(reason=""), "$.trees[1].packages[0].reason"),
    "dependency outside": (lambda d: package(d).update(depends=["zz"]), "$.trees[1].packages[0].depends"),
    "one path, two digests": (
        lambda d: package(d, 1).update(digest="sha256:" + "0" * 64),
        "$.trees[1].packages[1].digest",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_tampered_lock_is_refused_at_its_place(lock: Lock, name: str) -> None:
    change, place = TAMPERINGS[name]
    document = json.loads(lock_bytes(lock))
    change(document)
    with pytest.raises(KilnError) as caught:
        read_lock(pretty_json(document), "kiln.lock")
    assert caught.value.reason == "bad-lock"
    assert caught.value.place is not None
    assert (caught.value.place.file, caught.value.place.path) == ("kiln.lock", place)


def test_duplicate_keys_and_other_text_are_refused(lock: Lock) -> None:
    data = lock_bytes(lock)
    for bad in (data.replace(b'"epoch"', b'"epoch": 1, "epoch"'), data[:-10], data + b"{}", b"[]", b"\xff", b""):
        with pytest.raises(KilnError) as caught:
            read_lock(bad, "kiln.lock")
        assert caught.value.reason == "bad-lock"


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_is_refused_or_gives_a_different_lock(lock: Lock, data: st.DataObject) -> None:
    text = bytearray(lock_bytes(lock))
    text[data.draw(st.integers(0, len(text) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        changed = read_lock(bytes(text), "kiln.lock")
    except KilnError as error:
        assert error.reason == "bad-lock"
    else:
        spaces = bytes(text).split() == lock_bytes(lock).split()
        assert spaces or lock_digest(changed) != lock_digest(lock)
