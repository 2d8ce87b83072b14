"""What survives when processes are killed at the worst moment, disks are full, and others work on the same store."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kiln.engine import main as engine_main
from kiln.engine.objects.fsck import check
from kiln.engine.objects.store import ObjectStore
from kiln.linux import faults, locks, mounts

pytestmark = pytest.mark.root

GOLDEN = Path(__file__).parent / "golden"
VARIANTS = 6
BYTES = 300_000
# Each with how often one run passes it, at least.
BUILDING = {
    **dict.fromkeys(("commit:tree-done", "commit:unmounted", "commit:recorded", "commit:marked", "commit:renamed"), 3),
    "discard:renamed": 3,
    "write:opened": 1,
    "write:written": 1,
    "write:renamed": 1,
    **dict.fromkeys(("download:opened", "download:complete", "download:renamed"), 2),
    "download:piece": 6,
    **dict.fromkeys(("export:file-begun", "export:file-written", "export:file-renamed"), 4),
}
EVICTING = dict.fromkeys(("evict:chosen", "evict:renamed"), 2)
COLLECTING = dict.fromkeys(("collect:synced", "collect:unmarked", "collect:deleting"), 2)
EXPORTING = {"bundle:member-written": 3, "bundle:file-done": 1, "write:opened": 1, "write:written": 2}
IMPORTING = {
    **dict.fromkeys(("bundle:object-unpacked", "bundle:object-verified", "bundle:object-renamed"), 3),
    **dict.fromkeys(("commit:marked", "commit:renamed"), 3),
    "write:written": 1,
}


@dataclass
class World:
    """A store, programs that work on it, and a server with the files that they need."""

    root: Path
    libdir: Path
    port: int
    kills: int = 0
    points: set[str] = field(default_factory=set)

    @property
    def store(self) -> Path:
        return self.root / "store"

    def run(self, argv: list[str], fault: str = "") -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "XDG_STATE_HOME": str(self.root / "state"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        environment.pop(faults.VARIABLE, None)
        if fault:
            environment[faults.VARIABLE] = fault
        return subprocess.run(
            [sys.executable, *argv], env=environment, capture_output=True, text=True, check=False, cwd=self.root
        )

    def manifest(self, variant: int) -> Path:
        path = self.root / f"manifest-{variant}.json"
        items = {
            f"sha256:{hashlib.sha256(content(variant, n)).hexdigest()}": {
                "url": f"http://127.0.0.1:{self.port}/{variant}-{n}"
            }
            for n in range(2)
        }
        entry = {"type": "org.osbuild.files", "origin": "org.osbuild.source", "references": list(items)}
        copy = (
            "import shutil\n"
            "for name in sorted(os.listdir('/run/osbuild/inputs/f')):\n"
            "    shutil.copy('/run/osbuild/inputs/f/' + name, tree + '/' + name[-8:])\n"
        )
        fill = f"[open(tree + '/file%d' % n, 'w').write('{variant}' * 1000) for n in range(5)]; os.mkdir(tree + '/d')"
        change = "os.rename(tree + '/file0', tree + '/d/moved'); os.unlink(tree + '/file1')"
        stages: list[dict[str, Any]] = [
            {"type": "org.kiln.test.script", "options": {"script": s}} for s in (fill, change)
        ]
        stages.insert(1, {"type": "org.kiln.test.script", "options": {"script": copy}, "inputs": {"f": entry}})
        document = {
            "version": "2",
            "sources": {"org.osbuild.curl": {"items": items}},
            "pipelines": [{"name": "os", "source-epoch": 1000, "stages": stages}],
        }
        path.write_text(json.dumps(document))
        return path

    def build(self, variant: int, fault: str = "", maximum: str = "unlimited", out: str = "out") -> Any:
        return self.run(
            [
                *("-m", "kiln.engine.main", "--store", str(self.store), "--libdir", str(self.libdir)),
                *("--cache-max-size", maximum, "--export", "os", "--output-directory", str(self.root / out), "-q"),
                str(self.manifest(variant)),
            ],
            fault,
        )

    def kiln(self, *arguments: str, fault: str = "") -> subprocess.CompletedProcess[str]:
        return self.run(["-c", "from kiln.cli.main import run; run()", "store", *arguments], fault)

    def killed(self, done: subprocess.CompletedProcess[str], fault: str) -> None:
        """Count a kill; a run that did not get that far must have succeeded."""
        if done.returncode == -signal.SIGKILL:
            self.kills += 1
            self.points.add(fault.partition("#")[0])
        else:
            assert done.returncode == 0, (fault, done.stderr)

    def right(self, variant: int, out: str = "out") -> None:
        """The exported tree is the one that an undisturbed build makes."""
        tree = self.root / out / "os"
        assert (tree / "d/moved").read_text() == str(variant) * 1000
        names = {f"file{n}" for n in (2, 3, 4)} | {"d"}
        names |= {hashlib.sha256(content(variant, n)).hexdigest()[-8:] for n in range(2)}
        assert {path.name for path in tree.iterdir()} == names
        for n in range(2):
            data = content(variant, n)
            assert (tree / hashlib.sha256(data).hexdigest()[-8:]).read_bytes() == data
        subprocess.run(["rm", "-rf", tree], check=True)

    def whole(self) -> None:
        """Nothing in the store is damaged."""
        assert check(self.store, repair=False).damaged == ()
        assert mounts.mounted_below(self.store) == []

    def forget(self, *, objects: bool = True, sources: bool = True) -> None:
        """Have the next build begin again."""
        with ObjectStore(self.store, background=False) as store:
            if objects:
                for path in (self.store / "objects").iterdir():
                    store.throw_away(path)
        if sources and (self.store / "sources").is_dir():
            for path in (self.store / "sources/org.osbuild.files").iterdir():
                path.unlink()


def content(variant: int, number: int) -> bytes:
    return random.Random(variant * 10 + number).randbytes(BYTES)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        variant, _, number = self.path.strip("/").partition("-")
        data = content(int(variant), int(number))
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def world(tmp_path: Path, libdir: Path) -> Iterator[World]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield World(tmp_path, libdir, server.server_address[1])
    server.shutdown()
    server.server_close()


def trial(world: World, kind: str, fault: str, variant: int) -> None:
    """Kill one run at one point; then everything works as if nothing had been."""
    match kind:
        case "build":
            world.forget()
            world.killed(world.build(variant, fault), fault)
        case "evict":
            world.killed(world.build(variant, fault, maximum="1MB"), fault)
        case "collect":
            assert world.build(variant).returncode == 0
            with locks.exclusive(world.store / "collector.lock"):  # the build's own collector has finished
                world.forget(sources=False)
                with ObjectStore(world.store, background=False) as store:
                    for number in range(2):
                        store.commit(store.begin(f"{number:064x}"))
            world.killed(world.kiln("gc", "--store", str(world.store), fault=fault), fault)
        case "export":
            assert world.build(variant).returncode == 0
            bundle = world.root / "bundle"
            bundle.unlink(missing_ok=True)
            done = world.kiln("export", "--store", str(world.store), str(bundle), fault=fault)
            world.killed(done, fault)
            assert bundle.exists() == (done.returncode == 0)
        case "import":
            assert world.build(variant).returncode == 0
            bundle = world.root / "bundle"
            assert world.kiln("export", "--store", str(world.store), str(bundle)).returncode == 0
            world.forget()
            world.killed(world.kiln("import", "--store", str(world.store), str(bundle), fault=fault), fault)
            world.whole()
            done = world.kiln("import", "--store", str(world.store), str(bundle))
            assert done.returncode == 0, done.stderr
    world.whole()
    done = world.build(variant)
    assert done.returncode == 0, (fault, done.stdout, done.stderr)
    world.right(variant)
    world.whole()


def trials() -> list[tuple[str, str]]:
    kinds = {"build": BUILDING, "evict": EVICTING, "collect": COLLECTING, "export": EXPORTING, "import": IMPORTING}
    return [
        (kind, f"{point}#{number}")
        for kind, points in kinds.items()
        for point, most in points.items()
        for number in range(1, most + 1)
    ]


def test_every_point_is_one_that_the_suite_kills_at() -> None:
    assert {fault.partition("#")[0] for _, fault in trials()} == set(faults.POINTS)
    source = Path(engine_main.__file__).parents[1]
    for point in faults.POINTS:
        assert any(f'faults.point("{point}")' in path.read_text() for path in source.rglob("*.py")), point


def test_a_sample_of_kills_damages_nothing(world: World) -> None:
    chosen = (
        "build commit:marked#2",
        "build download:piece#4",
        "evict evict:renamed#1",
        "import bundle:object-renamed#2",
    )
    for number, item in enumerate(chosen):
        kind, fault = item.split()
        trial(world, kind, fault, number % VARIANTS)
    assert world.kills == len(chosen)
    leftovers(world)


@pytest.mark.full
def test_two_hundred_kills_damage_nothing(world: World) -> None:
    random_ = random.Random(200)
    queue = trials()
    while world.kills < 200:
        if not queue:
            queue = random_.sample(trials(), len(trials()))
        kind, fault = queue.pop(0)
        trial(world, kind, fault, random_.randrange(VARIANTS))
    assert world.points == set(faults.POINTS)
    leftovers(world)


def leftovers(world: World) -> None:
    """Once nobody works any more, `kiln store gc` leaves nothing but what is whole."""
    done = world.kiln("gc", "--store", str(world.store), "--json")
    assert done.returncode == 0, done.stderr
    for name in ("trash", "working", "pending"):
        assert list((world.store / name).iterdir()) == [], name
    names = [path.name for path in (world.store / "sources/org.osbuild.files").iterdir()]
    assert all(name.startswith("sha256:") for name in names)
    assert not list(world.store.glob(".*.tmp"))


def test_a_full_disk_is_one_clear_error_and_the_store_stays_whole(world: World) -> None:
    world.store.mkdir()
    with mounts.tmpfs(world.store, size="2m"):
        assert world.build(0).returncode == 0
        world.right(0)
        big = {"version": "2", "pipelines": [{"name": "os", "stages": [
            {"type": "org.kiln.test.script", "options": {"script": "open(tree + '/big', 'wb').write(b'x' * 8_000_000)"}}
        ]}]}  # fmt: skip
        manifest = world.root / "big.json"
        manifest.write_text(json.dumps(big))
        argv = ["-m", "kiln.engine.main", "--store", str(world.store), "--libdir", str(world.libdir)]
        done = world.run([*argv, "--export", "os", "--output-directory", str(world.root / "out"), str(manifest), "-q"])
        assert done.returncode == 1
        assert "no space left on the disk" in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        assert not (world.root / "out/os/big").exists()
        # Downloads, too.
        full = world.build(1)
        while full.returncode == 0:
            world.right(1)
            (world.store / "filler").write_bytes(b"x" * (os.statvfs(world.store).f_bavail * 4096 - 200_000))
            full = world.build(2)
        assert "no space left" in full.stderr
        assert "Traceback" not in full.stderr
        world.whole()
        mounts.mount(None, world.store, None, mounts.MS_REMOUNT, "size=64m")
        assert world.build(2).returncode == 0
        world.right(2)
        world.whole()


def test_two_processes_build_the_same_and_different_plans_on_one_store(world: World) -> None:
    results: dict[str, Any] = {}

    def build(variant: int, out: str) -> None:
        results[out] = world.build(variant, maximum="2MB", out=out)

    jobs = [(0, "a"), (0, "b"), (1, "c")]
    threads = [threading.Thread(target=partial(build, *job)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for variant, out in jobs:
        assert results[out].returncode == 0, results[out].stderr
        world.right(variant, out)
    world.whole()


def test_a_killed_build_leaves_nothing_that_the_next_one_does_not_collect(world: World) -> None:
    assert world.build(3, "commit:marked#2").returncode == -signal.SIGKILL
    assert list((world.store / "working").iterdir())
    with ObjectStore(world.store, background=False) as store:
        assert list((world.store / "working").iterdir()) == []
        store.gc()
    assert list((world.store / "trash").iterdir()) == []
    assert mounts.mounted_below(world.store) == []


def test_broken_manifests_never_give_a_traceback_on_the_command_line(libdir, tmp_path, capsys) -> None:
    original = (GOLDEN / "manifest.json").read_text(encoding="utf-8")
    random_ = random.Random(7)
    path = tmp_path / "manifest.json"
    argv = ["--libdir", str(libdir), "--store", str(tmp_path / "store"), "--inspect", str(path)]
    pieces = ["{", "}", "[", "null", '"name:x"', "-1", "\udcff", "1e400", '{"a":', "[[[[", "true", '"\\ud800"', "\x00"]
    statuses = set()
    for _ in range(100):
        text = original
        for _ in range(random_.randrange(1, 4)):
            start = random_.randrange(len(text))
            text = text[:start] + random_.choice(pieces) + text[start + random_.randrange(30) :]
        path.write_bytes(text.encode("utf-8", "surrogateescape"))
        statuses.add(engine_main.main(argv))  # anything but a status would be a traceback
        capsys.readouterr()
    assert statuses <= {0, 1, 2}
    assert 2 in statuses
