"""`kiln store`: what it says, what it takes away, what it finds, what it carries from one store to another."""

from __future__ import annotations

import io
import json
import os
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kiln.cli.main import app
from kiln.engine.objects.bundle.format import LENGTH, MAGIC, encode_header
from kiln.engine.objects.bundle.reading import read_bundle
from kiln.engine.objects.bundle.writing import write_bundle
from kiln.engine.objects.model import EMPTY
from kiln.engine.objects.store import ObjectStore
from kiln.errors import KilnError
from kiln.linux import mounts

pytestmark = pytest.mark.root

KEYS = [f"{number:064x}" for number in range(1, 20)]
SOURCE = b"a source file" * 1000


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)


def kiln(*arguments: str, status: int = 0, stdin: bytes | None = None) -> Any:
    result = CliRunner().invoke(app, ["store", *arguments], input=stdin)
    assert result.exit_code == status, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout_bytes


def fill(root: Path) -> None:
    """Two objects over each other, one beside them, and a source."""
    with ObjectStore(root, background=False) as store:
        refs = [EMPTY]
        for number in (0, 1):
            working = store.begin(KEYS[number], refs[-1])
            (working.tree / f"file{number}").write_bytes(os.urandom(100_000))
            if number:
                (working.tree / "file0").unlink()
                (working.tree / "d").mkdir()
            refs.append(store.commit(working, stage="org.osbuild.noop", stage_id=f"{number:064d}", metadata={"n": 1}))
        working = store.begin(KEYS[2])
        (working.tree / "other").write_text("x" * 5000)
        store.commit(working, stage_id="f" * 64)
        import hashlib

        (store.files / f"sha256:{hashlib.sha256(SOURCE).hexdigest()}").write_bytes(SOURCE)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    fill(tmp_path / "store")
    return tmp_path / "store"


def tree_ids(root: Path) -> dict[str, str]:
    with ObjectStore(root, background=False) as opened:
        found = {key: opened.lookup(key) for key in KEYS}
        return {key: opened.content_id(ref) for key, ref in found.items() if ref is not None}


def test_usage_is_told_by_kind(store: Path, tmp_path: Path) -> None:
    document = kiln("du", "--store", str(store), "--json")
    kinds = {item["kind"]: item for item in document["usage"]}
    assert kinds["objects"]["count"] == 3
    assert kinds["objects"]["bytes"] > 200_000
    assert kinds["sources"]["count"] == 1
    assert document["bytes"] == sum(item["bytes"] for item in document["usage"])
    assert b"objects" in kiln("du", "--store", str(store))
    kiln("du", status=3)
    fill(tmp_path / "state/kiln/store")
    assert "indexes" in {item["kind"] for item in kiln("du", "--json")["usage"]}


def test_gc_takes_what_nobody_can_use_and_a_dry_run_takes_nothing(store: Path) -> None:
    (store / "objects" / KEYS[5]).mkdir()
    (store / "objects" / KEYS[5] / "object.json").write_text('{"version": 1, "layers": []}')
    (store / "sources/org.osbuild.files/.sha256:x.1.2.part").write_bytes(b"x" * 5000)
    (store / "trash/old").mkdir(exist_ok=True)
    before = sorted(str(path) for path in store.rglob("*"))
    would = kiln("gc", "--store", str(store), "--dry-run", "--json", "--max-size", "100kB")
    assert sorted(str(path) for path in store.rglob("*") if path.name not in ("size", "pins.lock")) == [
        path for path in before if not path.endswith(("/size", "/pins.lock"))
    ]
    done = kiln("gc", "--store", str(store), "--json", "--max-size", "100kB")
    for name in ("unusable", "evicted", "partial"):
        assert done[name].keys() == would[name].keys()
    assert would["dryRun"]
    assert not done["dryRun"]
    assert list(done["unusable"]) == [KEYS[5]]
    assert list(done["partial"]) == [".sha256:x.1.2.part"]
    assert set(done["evicted"]) == {KEYS[0], KEYS[1]}
    assert {path.name for path in (store / "objects").iterdir()} == {KEYS[2]}
    assert list((store / "trash").iterdir()) == []
    kiln("gc", "--store", str(store), "--max-size", "lots", status=2)


def test_gc_leaves_what_a_running_build_uses(store: Path) -> None:
    with ObjectStore(store, background=False) as running:
        assert running.lookup(KEYS[1]) is not None
        (store / "sources/org.osbuild.files/.sha256:x.1.2.part").write_bytes(b"x")
        done = kiln("gc", "--store", str(store), "--json", "--max-size", "0")
        assert set(done["evicted"]) == {KEYS[2]}
        assert done["partial"] == {}


def test_old_package_indexes_go_and_the_dates_stay(tmp_path: Path) -> None:
    fill(tmp_path / "state/kiln/store")
    pool = tmp_path / "state/kiln/cache/indexes/sha256"
    pool.mkdir(parents=True)
    for name, age in (("old", 40), ("new", 1)):
        (pool / name).write_bytes(b"x" * 100)
        when = datetime.now(UTC).timestamp() - age * 86400
        os.utime(pool / name, (when, when))
    (pool.parent / "dates").mkdir()
    assert list(kiln("gc", "--json", "--dry-run")["indexes"]) == ["old"]
    assert list(kiln("gc", "--json")["indexes"]) == ["old"]
    assert [path.name for path in pool.iterdir()] == ["new"]
    assert (pool.parent / "dates").is_dir()


def test_fsck_finds_each_kind_of_damage_and_quarantines_it(store: Path, tmp_path: Path) -> None:
    kiln("export", "--store", str(store), str(tmp_path / "bundle"))  # writes the digests down
    clean = kiln("fsck", "--store", str(store), "--json")
    assert clean["damaged"] == []
    assert clean["verified"] == 4
    (store / "objects" / KEYS[0] / "layer/file0").write_bytes(b"changed")
    (store / "objects" / KEYS[2] / "object.json").write_text("{")
    source = next((store / "sources/org.osbuild.files").iterdir())
    source.write_bytes(SOURCE + b"!")
    found = kiln("fsck", "--store", str(store), "--json", "--dry-run", status=4)
    assert {item["name"] for item in found["damaged"]} == {KEYS[0], KEYS[2], source.name}
    assert source.exists()
    kiln("fsck", "--store", str(store), status=4)
    assert not source.exists()
    assert {path.name for path in (store / "quarantine").iterdir()} == {
        f"object-{KEYS[0]}",
        f"object-{KEYS[2]}",
        f"source-{source.name}",
    }
    # What stood on the damaged layer is of no use either.
    assert [item["name"] for item in kiln("fsck", "--store", str(store), "--json", status=4)["damaged"]] == [KEYS[1]]
    assert kiln("fsck", "--store", str(store), "--json")["damaged"] == []
    with ObjectStore(store, background=False) as again:
        assert again.lookup(KEYS[0]) is again.lookup(KEYS[1]) is None


def test_a_bundle_fills_another_store_with_the_same(store: Path, tmp_path: Path) -> None:
    written = kiln("export", "--store", str(store), str(tmp_path / "bundle"), "--json")
    assert set(written["objects"]) == set(KEYS[:3])
    other = tmp_path / "other"
    new = kiln("import", "--store", str(other), str(tmp_path / "bundle"), "--json")
    assert set(new["objects"]) == set(KEYS[:3])
    assert new["sources"] == written["sources"]
    assert tree_ids(other) == tree_ids(store)
    with ObjectStore(other, background=False) as opened:
        assert opened.metadata(KEYS[1]) == {"n": 1}
    again = kiln("import", "--store", str(other), str(tmp_path / "bundle"), "--json")
    assert again["objects"] == again["sources"] == []
    assert kiln("fsck", "--store", str(other), "--json")["verified"] == 4


def test_an_export_takes_a_stage_with_what_it_stands_on(store: Path, tmp_path: Path) -> None:
    stage = f"{1:064d}"
    written = kiln("export", "--store", str(store), "--no-sources", str(tmp_path / "bundle"), stage, "--json")
    assert written == {"kind": "kiln.store-bundle/v1", "objects": KEYS[:2], "sources": []}
    piped = kiln("export", "--store", str(store), "--no-sources", "-", stage)
    kiln("import", "--store", str(tmp_path / "piped"), "-", stdin=piped)
    assert tree_ids(tmp_path / "piped").keys() == set(KEYS[:2])
    kiln("export", "--store", str(store), str(tmp_path / "none"), "0" * 63 + "9", status=3)
    assert not (tmp_path / "none").exists()
    kiln("import", "--store", str(tmp_path / "piped"), str(tmp_path / "none"), status=3)


def bundle(store: Path) -> bytes:
    file = io.BytesIO()
    with ObjectStore(store, background=False) as opened:
        write_bundle(opened, file.write)
    return file.getvalue()


def imported(root: Path, data: bytes) -> str:
    with ObjectStore(root, background=False) as opened:
        try:
            read_bundle(opened, io.BytesIO(data).read)
        except KilnError as error:
            return error.reason
    return "done"


def test_a_bundle_that_is_cut_off_or_changed_gives_nothing_but_whole_objects(store: Path, tmp_path: Path) -> None:
    data, right = bundle(store), tree_ids(store)
    random_ = random.Random(3)
    for number in range(60):
        root = tmp_path / f"s{number}"
        if number % 2:
            broken = data[: random_.randrange(len(data))]
        else:
            position = random_.randrange(len(data))
            broken = data[:position] + bytes([data[position] ^ (1 << random_.randrange(8))]) + data[position + 1 :]
        assert imported(root, broken) in ("damaged-bundle", "damaged-stream")
        found = tree_ids(root)
        assert found.items() <= right.items()
        assert not list((root / "working").iterdir())
    assert imported(tmp_path / "whole", data) == "done"


def part(header: dict[str, Any], content: bytes = b"") -> bytes:
    encoded = encode_header(header)
    return LENGTH.pack(len(encoded)) + encoded + content


def test_a_hostile_bundle_reaches_nothing_outside(store: Path, tmp_path: Path) -> None:
    record = {"version": 2, "key": KEYS[3], "base": None, "layers": [KEYS[3]], "stage": "", "stage_id": ""}
    hostile = [
        b"",
        b"PK\x03\x04",
        MAGIC + LENGTH.pack(2**32 - 1),
        MAGIC + LENGTH.pack(5) + b"[[[[[",
        MAGIC + part({"kind": "source", "name": "../../../etc/passwd", "size": 1}, b"x"),
        MAGIC + part({"kind": "source", "name": "sha256:" + "0" * 64, "size": 1}, b"x"),
        MAGIC + part({"kind": "source", "name": "sha256:" + "0" * 64, "size": -1}, b"x"),
        MAGIC + part({"kind": "object", "record": {**record, "key": "../x"}, "metadata": None}),
        MAGIC + part({"kind": "object", "record": {**record, "layers": ["../x", KEYS[3]]}, "metadata": None}),
        MAGIC + part({"kind": "object", "record": {**record, "layers": [KEYS[9], KEYS[3]]}, "metadata": None}),
        MAGIC + part({"kind": "object", "record": {**record, "layers": [KEYS[9]]}, "metadata": None}),
        MAGIC + part({"kind": "object", "record": {**record, "version": 99}, "metadata": None}),
        MAGIC + part({"kind": "object", "record": None, "metadata": None}),
        MAGIC + part({"kind": "object", "record": record, "metadata": [1]}),
        MAGIC + part({"kind": "end", "digest": "0" * 64}),
        MAGIC + part({"kind": "x"}),
    ]
    for data in hostile:
        assert imported(tmp_path / "target", data) == "damaged-bundle", data[:100]
    assert list((tmp_path / "target/objects").iterdir()) == []
    assert list((tmp_path / "target/sources/org.osbuild.files").iterdir()) == []


def test_a_full_disk_ends_an_import_with_one_error(store: Path, tmp_path: Path) -> None:
    data = bundle(store)
    disk = tmp_path / "disk"
    disk.mkdir()
    with mounts.tmpfs(disk, size="160k"):
        assert imported(disk / "s", data) == "no-space"
        mounts.mount(None, disk, None, mounts.MS_REMOUNT, "size=2m")
        assert tree_ids(disk / "s").items() <= tree_ids(store).items()


def test_an_object_of_another_version_does_not_hide_a_new_one(tmp_path: Path) -> None:
    old = tmp_path / "s/objects" / KEYS[0]
    with ObjectStore(tmp_path / "s", background=False):
        (old / "layer").mkdir(parents=True)
        (old / "object.json").write_text(json.dumps({"version": 1, "key": KEYS[0], "layers": [KEYS[0]]}))
    with ObjectStore(tmp_path / "s", background=False) as store:
        assert store.lookup(KEYS[0]) is None
        ref = store.commit(store.begin(KEYS[0]))
        assert store.lookup(KEYS[0]) == ref
