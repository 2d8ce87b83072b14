"""Trees in the store: what it costs to keep one of 1 GB, and to go on from it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

from bench.engines import osbuild
from bench.measure import Row, compare
from bench.places import environment

FILES: Final = 31_000
FILE_BYTES: Final = 33_000
"""Together 1 GB, and as many files as a system of that size has."""
PER_DIRECTORY: Final = 500

THEIRS: Final = """
import json, os, sys
from osbuild.objectstore import ObjectStore
sys.path.insert(0, {repository!r})
from bench.objects import fill, used
with ObjectStore("objects-osbuild") as store:
    store.maximum_size = "unlimited"
    tree = store.new("a" * 64)
    fill(tree.tree)
    before = used()
    store.commit(tree, "a" * 64)
    between = used()
    clone = store.new("b" * 64)
    clone.init(store.get("a" * 64))
    clone.cleanup()
    after = used()
    print(json.dumps([between - before, after - between]), file=sys.stderr)
    os._exit(0)  # what else would be removed here is not compared
"""
OURS: Final = """
import json, os, sys
from pathlib import Path
from kiln.engine.objects.store import ObjectStore
sys.path.insert(0, {repository!r})
from bench.objects import fill, used
with ObjectStore(Path("objects-kiln"), background=False) as store:
    tree = store.begin("a" * 64)
    fill(tree.tree)
    before = used()
    ref = store.commit(tree)
    between = used()
    clone = store.begin("b" * 64, ref)
    store.discard(clone)
    after = used()
    print(json.dumps([between - before, after - between]), file=sys.stderr)
    os._exit(0)
"""


def used() -> float:
    """Return the seconds of CPU of this process and of those that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def fill(tree: str | Path) -> None:
    """Write the files."""
    content = b"\x5a" * FILE_BYTES
    for number in range(FILES):
        directory = Path(tree, f"{number // PER_DIRECTORY:03}")
        if number % PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
        (directory / str(number)).write_bytes(content)


def rows(directory: Path) -> list[Row]:
    """Keeping a tree, and beginning a new one from it (and giving that up again)."""
    own = _run(sys.executable, OURS, directory, {})
    engine = osbuild()
    theirs = None if engine is None else _run(engine.argv[0], THEIRS, directory, dict(engine.variables))
    unit = "s of CPU for 1 GB in 31,000 files"
    names = ("engine.commit_1gb", "engine.clone_1gb")
    calls = ("ObjectStore.commit (osbuild: ObjectStore.commit)", "ObjectStore.begin + discard (osbuild: Object.init)")
    return [
        compare(name, own[index], None if theirs is None else theirs[index], unit, call)
        for index, (name, call) in enumerate(zip(names, calls, strict=True))
    ]


def _run(python: str, program: str, directory: Path, variables: dict[str, str]) -> list[float]:
    repository = str(Path(__file__).parents[1])
    code = program.format(repository=repository)
    env = environment() | variables
    done = subprocess.run([python, "-c", code], cwd=directory, env=env, check=True, stderr=subprocess.PIPE, text=True)
    measured: list[float] = json.loads(done.stderr.splitlines()[-1])
    return measured
