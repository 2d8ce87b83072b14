"""The store: layers that keep everything a tree can have, complete or invisible, whatever is killed when."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from kiln.engine.objects.content import tree_id
from kiln.engine.objects.copying import copy_tree
from kiln.engine.objects.layout import Layout
from kiln.engine.objects.model import EMPTY
from kiln.engine.objects.store import MAX_LAYERS, ObjectStore
from kiln.errors import KilnError
from kiln.linux import mounts

pytestmark = pytest.mark.root

KEYS = [f"{number:064x}" for number in range(1, 200)]


@pytest.fixture(params=["overlay", "copy"])
def either(request, tmp_path):
    """Stores of both kinds: what one can do, the other can."""
    with ObjectStore(tmp_path / request.param, backend=request.param, background=False) as opened:
        yield opened


def make(store, key, change, base=EMPTY, **commit):
    working = store.begin(key, base)
    change(working.tree)
    return store.commit(working, **commit)


def full_of_everything(tree):
    (tree / "dir").mkdir(mode=0o2775)
    (tree / "dir").chmod(0o2775)
    (tree / "dir/suid").write_text("#!")
    os.chown(tree / "dir/suid", 7, 8)
    (tree / "dir/suid").chmod(0o4755)
    os.setxattr(tree / "dir/suid", "user.kiln", b"\x00\xff")
    os.setxattr(tree / "dir", "security.kiln", b"x")
    (tree / "one").write_text("shared")
    os.link(tree / "one", tree / "two")
    os.link(tree / "one", tree / "dir/three")
    (tree / "link").symlink_to("/nowhere")
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(tree / "disk", stat.S_IFBLK | 0o660, os.makedev(8, 1))
    os.mkfifo(tree / "fifo")
    with (tree / "sparse").open("wb") as file:
        file.truncate(64 * 1024 * 1024)
        file.seek(32 * 1024 * 1024)
        file.write(b"data")
    (tree / "b\udcffad").write_text("name")
    for name in ("one", "sparse", "link", "null", "dir/suid", "dir", "b\udcffad", "fifo", "disk", "."):
        os.utime(tree / name, ns=(1, 1_500_000_000_123_456_789), follow_symlinks=False)


def test_a_stored_tree_has_everything_that_was_put_in(either, tmp_path):
    plain = tmp_path / "plain"
    plain.mkdir(mode=0o755)
    full_of_everything(plain)
    ref = make(either, KEYS[0], full_of_everything)
    assert either.content_id(ref) == tree_id(plain)
    with either.mounted(ref) as tree:
        assert (tree / "one").stat().st_ino == (tree / "dir/three").stat().st_ino
        assert not any(name.startswith("trusted.overlay") for name in os.listxattr(tree / "dir"))
        with pytest.raises(OSError, match="Read-only"):
            (tree / "new").touch()


def test_a_later_stage_changes_only_what_it_changes(either, tmp_path):
    def change(tree):
        (tree / "two").write_text("changed")  # through one of three names of a file
        (tree / "link").unlink()
        (tree / "null").unlink()
        (tree / "null").mkdir()
        (tree / "dir").rename(tree / "moved")
        (tree / "sparse").chmod(0o600)
        for name in ("one", "moved", "null", "."):
            os.utime(tree / name, ns=(1, 1))

    plain = tmp_path / "plain"
    plain.mkdir(mode=0o755)
    full_of_everything(plain)
    change(plain)
    first = make(either, KEYS[0], full_of_everything)
    before = either.content_id(first)
    second = make(either, KEYS[1], change, first)
    assert either.content_id(second) == tree_id(plain)
    with either.mounted(second) as tree:
        assert [(tree / name).read_text() for name in ("one", "two", "moved/three")] == ["changed"] * 3
        assert (tree / "one").stat().st_ino == (tree / "moved/three").stat().st_ino
    third = make(either, KEYS[2], lambda tree: (tree / "moved/three").chmod(0o640), second)
    with either.mounted(third) as tree:
        assert {stat.S_IMODE((tree / name).stat().st_mode) for name in ("one", "two", "moved/three")} == {0o640}
    assert tree_id_again(either, first) == before


def tree_id_again(store, ref):
    with store.mounted(ref) as tree:
        return tree_id(tree)


def test_removing_one_name_of_a_file_leaves_the_others(either):
    first = make(either, KEYS[0], full_of_everything)
    second = make(either, KEYS[1], lambda tree: (tree / "one").unlink(), first)
    with either.mounted(second) as tree:
        assert not (tree / "one").exists()
        assert (tree / "two").read_text() == "shared"


def test_a_directory_that_is_replaced_does_not_show_the_old_one(either):
    import shutil

    def first(tree):
        (tree / "d/e").mkdir(parents=True)
        (tree / "d/e/old").touch()

    def second(tree):
        shutil.rmtree(tree / "d")
        (tree / "d/e").mkdir(parents=True)
        (tree / "d/e/new").touch()

    ref = make(either, KEYS[1], second, make(either, KEYS[0], first))
    with either.mounted(ref) as tree:
        assert [path.name for path in (tree / "d/e").iterdir()] == ["new"]


def test_a_commit_copies_nothing_of_the_base(store):
    def many(tree):
        for number in range(300):
            (tree / f"file{number}").write_bytes(b"x" * 4096)

    base = make(store, KEYS[0], many)
    ref = make(store, KEYS[1], lambda tree: (tree / "small").write_text("1"), base)
    layer = Layout(store.root).layer(ref.key)
    assert [path.name for path in layer.iterdir()] == ["small"]
    with store.mounted(ref) as tree:
        assert len(list(tree.iterdir())) == 301


def test_a_deep_stack_is_flattened_and_stays_right(store):
    ref = EMPTY
    for number in range(MAX_LAYERS + 3):
        ref = make(store, KEYS[number], lambda tree, n=number: (tree / f"f{n % 40}").write_text(str(n)), ref)
    assert len(ref.layers) <= MAX_LAYERS
    with store.mounted(ref) as tree:
        found = {path.name: path.read_text() for path in tree.iterdir()}
    assert found == {f"f{n % 40}": str(n) for n in range(MAX_LAYERS + 3)}


def test_a_stack_of_hundreds_of_layers_can_be_mounted(tmp_path):
    # The options of mount(2) are limited to one page; long paths would end after 30 layers.
    layers = []
    for number in range(300):
        layer = tmp_path / ("long" * 20) / f"layer, {number}: x"
        layer.mkdir(parents=True)
        (layer / str(number)).touch()
        layers.append(layer)
    target = tmp_path / "target"
    target.mkdir()
    with mounts.overlay(layers, target):
        assert len(list(target.iterdir())) == 300


def test_both_ways_to_mount_an_overlay_show_the_same(tmp_path):
    for name in ("a, b", "c:d", "upper", "work", "target"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"in {name}").touch()
    (tmp_path / "work/in work").unlink()
    lower = [tmp_path / "a, b", tmp_path / "c:d"]
    mounts._mount_overlay_by_options(lower, tmp_path / "target", tmp_path / "upper", tmp_path / "work", [])
    try:
        assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["in a, b", "in c:d", "in upper"]
    finally:
        mounts.unmount(tmp_path / "target")


def test_an_empty_tree_has_an_id_and_can_be_read(either):
    with either.mounted(EMPTY) as tree:
        assert list(tree.iterdir()) == []


def test_a_discarded_tree_is_gone(either):
    working = either.begin(KEYS[0])
    (working.tree / "x").touch()
    either.discard(working)
    assert either.lookup(KEYS[0]) is None
    assert either.gc() == 1


def test_the_first_of_two_equal_commits_wins(either):
    one, two = either.begin(KEYS[0]), either.begin(KEYS[0])
    (one.tree / "x").write_text("1")
    (two.tree / "x").write_text("2")
    either.commit(one)
    either.commit(two)
    with either.mounted(either.lookup(KEYS[0])) as tree:
        assert (tree / "x").read_text() == "1"


def test_objects_that_never_reached_the_disk_are_dropped_after_a_crash_of_the_machine(tmp_path, monkeypatch):
    import kiln.engine.objects.session as module

    with ObjectStore(tmp_path / "s", background=False) as store:
        make(store, KEYS[0], lambda tree: (tree / "a").touch())
        store.gc()
        base = store.lookup(KEYS[0])
        make(store, KEYS[1], lambda tree: (tree / "b").touch(), base)
    monkeypatch.setattr(module, "boot_id", lambda: "another-boot")
    with ObjectStore(tmp_path / "s", background=False) as store:
        assert store.lookup(KEYS[0]) is not None
        assert store.lookup(KEYS[1]) is None


def test_a_living_process_keeps_its_working_trees(tmp_path):
    with ObjectStore(tmp_path / "s", background=False) as one:
        working = one.begin(KEYS[0])
        (working.tree / "x").touch()
        with ObjectStore(tmp_path / "s", background=False):
            pass
        ref = one.commit(working)
        with one.mounted(ref) as tree:
            assert (tree / "x").exists()


def test_a_second_builder_waits_and_takes_the_result_of_the_first(tmp_path):
    order = []

    def second():
        with ObjectStore(tmp_path / "s", background=False) as store, store.claim(KEYS[0]) as existing:
            order.append(existing)

    with ObjectStore(tmp_path / "s", background=False) as store:
        with store.claim(KEYS[0]) as existing:
            assert existing is None
            thread = threading.Thread(target=second)
            thread.start()
            time.sleep(0.2)
            assert order == []
            ref = make(store, KEYS[0], lambda tree: (tree / "x").touch())
        thread.join()
    assert order == [ref]


def test_waiting_for_another_builder_can_be_ended(tmp_path):
    with (
        ObjectStore(tmp_path / "s", background=False) as store,
        store.claim(KEYS[0]),
        pytest.raises(KilnError) as caught,
        store.claim(KEYS[0], cancelled=lambda: True),
    ):
        pass
    assert caught.value.reason == "busy"


def test_a_full_disk_is_an_error_with_a_hint_and_the_store_stays_whole(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounts.tmpfs(disk, size="4m"), ObjectStore(disk / "s", background=False) as store:
        base = make(store, KEYS[0], lambda tree: (tree / "x").write_bytes(b"1" * 1000))
        working = store.begin(KEYS[1], base)
        with pytest.raises(OSError, match="No space"):
            (working.tree / "big").write_bytes(b"x" * 8_000_000)
        with pytest.raises(KilnError) as caught:
            store.commit(working, metadata={"x": "y" * 100000})
        store.discard(working)
        assert caught.value.reason == "no-space"
        assert store.lookup(KEYS[1]) is None
        store.gc()
        again = make(store, KEYS[1], lambda tree: (tree / "y").write_text("2"), base)
        with store.mounted(again) as tree:
            assert sorted(path.name for path in tree.iterdir()) == ["x", "y"]


def test_the_collector_empties_the_trash_after_the_process_has_gone(tmp_path):
    with ObjectStore(tmp_path / "s") as store:
        make(store, KEYS[0], lambda tree: (tree / "x").touch())
    deadline = time.monotonic() + 900  # it has the lowest priority, and waits for the disk
    while any((tmp_path / "s/trash").iterdir()) or any((tmp_path / "s/pending").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_export_has_everything_and_replaces_files_whole(either, tmp_path):
    ref = make(either, KEYS[0], full_of_everything)
    out = tmp_path / "out"
    out.mkdir()
    (out / "one").write_text("old")
    (out / "mine").write_text("mine")
    size = either.export(ref, out)
    assert size > 64 * 1024 * 1024
    assert (out / "sparse").stat().st_blocks * 512 < 8 * 1024 * 1024
    (out / "mine").unlink()
    os.utime(out, ns=(1, 1_500_000_000_123_456_789))
    assert tree_id(out) == either.content_id(ref)


def test_a_copy_with_holes_reads_the_same(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    with (source / "f").open("wb") as file:
        for position in (0, 1_000_000, 5_000_000, 9_999_999):
            file.seek(position)
            file.write(os.urandom(5000))
        file.truncate(12_000_000)
    copy_tree(source, tmp_path / "target")
    assert (tmp_path / "target/f").read_bytes() == (source / "f").read_bytes()


def test_the_content_id_sees_every_property(tmp_path):
    def base(tree):
        (tree / "d").mkdir(parents=True)
        (tree / "d/f").write_text("x")
        (tree / "l").symlink_to("d")
        for name in ("d/f", "d", "l", "."):
            os.utime(tree / name, ns=(0, 0), follow_symlinks=False)

    changes = {
        "same": lambda tree: None,
        "content": lambda tree: (tree / "d/f").write_text("y"),
        "mode": lambda tree: (tree / "d/f").chmod(0o600),
        "owner": lambda tree: os.chown(tree / "d/f", 1, 0),
        "group": lambda tree: os.chown(tree / "l", 0, 1, follow_symlinks=False),
        "time": lambda tree: os.utime(tree / "d", ns=(0, 1)),
        "attribute": lambda tree: os.setxattr(tree / "d", "user.a", b"1"),
        "target": lambda tree: ((tree / "l").unlink(), (tree / "l").symlink_to("e")),
        "name": lambda tree: (tree / "d/f").rename(tree / "d/g"),
        "new": lambda tree: (tree / "d/h").mkdir(),
    }
    ids = {}
    for name, change in changes.items():
        tree = Path(tmp_path / name)
        base(tree)
        change(tree)
        for path in ("d/f", "d/g", "l", "."):
            if os.path.lexists(tree / path):
                os.utime(tree / path, ns=(0, 0), follow_symlinks=False)
        if name != "time":
            os.utime(tree / "d", ns=(0, 0))
        ids[name] = tree_id(tree)
    assert len(set(ids.values())) == len(changes)
    base(tmp_path / "again")
    assert tree_id(tmp_path / "again") == ids["same"]


def test_a_tree_with_immutable_files_can_be_stored_and_thrown_away(either, tmp_path):
    import subprocess

    def protect(tree):
        (tree / "deployment").mkdir()
        (tree / "deployment/file").touch()
        subprocess.run(["chattr", "+i", tree / "deployment"], check=True, capture_output=True)

    try:
        first = make(either, KEYS[0], protect, source_epoch=1000)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this file system has no immutable files: {error.stderr}")
    second = make(either, KEYS[1], lambda tree: (tree / "beside").touch(), first, source_epoch=1000)
    with either.mounted(second) as tree:
        assert (tree / "deployment").stat().st_mtime == 1000
        assert (tree / "deployment/file").exists()
    either.throw_away(Layout(either.root).object(first.key))
    either.gc()
    assert list((either.root / "trash").iterdir()) == []


def test_a_single_layer_shows_no_marks_of_an_overlay(store):
    ref = make(store, KEYS[0], lambda tree: (tree / "d/e").mkdir(parents=True))
    layer = Layout(store.root).layer(ref.key)
    assert not any(os.listxattr(path) for path in (layer, *layer.rglob("*")))


def big(store, key, base=EMPTY):
    return make(store, key, lambda tree: (tree / key[-3:]).write_bytes(b"x" * 1_000_000), base)


def present(store):
    return {path.name for path in (store.root / "objects").iterdir()}


def test_the_maximum_size_holds_while_a_run_goes_on(tmp_path):
    with ObjectStore(tmp_path / "s", background=False) as earlier:
        for key in KEYS[:4]:
            big(earlier, key)
    with ObjectStore(tmp_path / "s", background=False) as store:
        assert present(store) == set(KEYS[:4])
        store.set_maximum(3_500_000)
        used = store.lookup(KEYS[0])  # oldest of all, but this run stands on it
        mine = big(store, KEYS[10], used)
        deadline = time.monotonic() + 120
        while len(present(store)) > 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert present(store) == {KEYS[0], KEYS[3], KEYS[10]}
        with store.mounted(mine) as tree:
            assert len(list(tree.iterdir())) == 2


def test_nothing_that_a_living_process_uses_is_evicted_by_another(tmp_path):
    with ObjectStore(tmp_path / "s", background=False) as one:
        chain = EMPTY
        for key in KEYS[:3]:
            chain = big(one, key, chain)
        with ObjectStore(tmp_path / "s", background=False) as two:
            two.set_maximum(0)
            big(two, KEYS[5])
        assert present(one) == set(KEYS[:3])
        with one.mounted(chain) as tree:
            assert len(list(tree.iterdir())) == 3
    assert list((tmp_path / "s/objects").iterdir()) == []


def test_what_is_not_used_for_longest_goes_first_and_what_others_stand_on_stays(tmp_path):
    from kiln.engine.objects.eviction import Stored, choose

    def stored(*entries):
        return {key: Stored(key, (*layers, key), used) for key, layers, used in entries}

    objects = stored(("a", (), 1), ("b", ("a",), 5), ("c", (), 2), ("d", (), 3))
    sizes = dict.fromkeys(objects, 10)
    assert choose(objects, sizes, frozenset(), 40) == ()
    assert choose(objects, sizes, frozenset(), 30) == ("c",)
    assert choose(objects, sizes, frozenset(), 10) == ("c", "d", "b")
    assert choose(objects, sizes, frozenset(), 0) == ("c", "d", "b", "a")
    assert choose(objects, sizes, frozenset({"b", "gone"}), 0) == ("c", "d")
    assert choose(objects, sizes, frozenset({"a"}), 0) == ("c", "d", "b")
