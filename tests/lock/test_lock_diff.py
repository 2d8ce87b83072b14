"""What changed between two locks, and locks in which only what was named becomes newer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from lock_archive import NOW, Archive, Bench, Signer, deb, resolution

from kiln.authoring.lock.diff import diff_locks
from kiln.authoring.lock.lock import make_lock
from kiln.authoring.lock.model import Lock

pytestmark = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get")

OLD = [
    deb("base-files", Essential="yes"),
    deb("docker", Depends="containerd"),
    deb("containerd", "1.0"),
    deb("libzstd", "1.5"),
    deb("nginx", "1.22", Depends="libzstd"),
]
NEW = [*OLD, deb("containerd", "1.1"), deb("nginx", "1.24", Depends="libzstd")]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Archive(Signer(), OLD), tmp_path)


def lock(bench: Bench, *, earlier: Lock | None = None, update: tuple[str, ...] = ()) -> Lock:
    asked = resolution(bench.base(), {"docker": "docker", "nginx": "nginx"})
    return make_lock(
        asked,
        architecture="amd64",
        fetcher=bench.fetcher,
        keyrings=bench.keyrings,
        cache=bench.cache,
        sink=bench.sink,
        now=NOW,
        earlier=earlier,
        update=update,
    )


def moved_on(bench: Bench) -> None:
    bench.archive.stanzas = NEW
    bench.archive.publish()


def changes(before: Lock, after: Lock) -> list[tuple[str, str, str, str, str]]:
    return [(item.tree, item.name, item.kind, item.before, item.after) for item in diff_locks(before, after)]


def test_equal_locks_do_not_differ(bench: Bench) -> None:
    assert diff_locks(lock(bench), lock(bench)) == []


def test_every_kind_of_change_is_told(bench: Bench) -> None:
    before = lock(bench)
    moved_on(bench)
    after = lock(bench)
    upgraded = [("image", "containerd", "upgraded", "1.0", "1.1"), ("image", "nginx", "upgraded", "1.22", "1.24")]
    assert changes(before, after) == upgraded
    assert [change[2] for change in changes(after, before)] == ["downgraded", "downgraded"]
    bench.archive.stanzas = [
        stanza for stanza in NEW if stanza["Package"] != "libzstd" and stanza["Package"] != "nginx"
    ]
    bench.archive.stanzas.append(deb("nginx", "1.24", Depends="libzstd2"))
    bench.archive.stanzas.append(deb("libzstd2", "2"))
    bench.archive.publish()
    found = changes(after, lock(bench))
    assert ("image", "libzstd", "removed", "1.5", "") in found
    assert ("image", "libzstd2", "added", "", "2") in found


def test_only_what_is_named_becomes_newer(bench: Bench) -> None:
    before = lock(bench)
    moved_on(bench)
    after = lock(bench, earlier=before, update=("nginx",))
    assert changes(before, after) == [("image", "nginx", "upgraded", "1.22", "1.24")]
    assert changes(before, lock(bench, earlier=before, update=("nothing",))) == []
    # A lock without an earlier one takes what is newest, whatever was asked before in the same room.
    assert len(diff_locks(before, lock(bench))) == 2
