"""Debian trees beside mmdebstrap: the same packages, downloaded before, on the same machine."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.measure import Row, compare
from kiln.authoring.compose.packages import deb_stage, mirror_items
from kiln.authoring.lock.model import LockedTree
from kiln.engine.execution.engine import Engine
from kiln.engine.execution.sources import MirrorSources
from kiln.engine.objects.store import ObjectStore
from kiln.events.model import NullSink
from kiln.fetch.client import Fetcher
from kiln.fetch.mirrors import Mirrors

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/road"))
from tree_equality import archive, locked, offer, theirs  # noqa: E402

SERVER = ("openssh-server", "nginx", "curl", "ca-certificates")
ADDED = ("redis-server", "htop", "tree", "jq", "rsync")
"""One of them is added to the server in each run."""


def rows(directory: Path) -> list[Row]:
    """Median wall time of trees built by the engine, against mmdebstrap with an archive of the same files."""
    found = offer(directory)
    minbase, server = locked(found, directory, ()), locked(found, directory, SERVER)
    grown = [locked(found, directory, (*SERVER, name)) for name in ADDED]
    added = [_without(tree, server) for tree in grown]
    epochs = range(1, len(ADDED) + 1)  # a run with another epoch finds no tree of an earlier one
    with ObjectStore(directory / "store") as store:
        sources = MirrorSources(lambda: Fetcher(Mirrors.of_this_machine({}), NullSink()))
        engine = Engine(store, ROOT / "libdir", sources, NullSink())
        for tree in grown:
            _build(engine, [tree])  # fetches the packages, and warms what is warm later
        _build(engine, [server])
        ours = {
            "minbase": _median(lambda epoch=epoch: _build(engine, [minbase], epoch) for epoch in epochs),
            "server": _median(lambda epoch=epoch: _build(engine, [server], epoch) for epoch in epochs),
            "server_plus_one": _median(lambda layer=layer: _build(engine, [server, layer]) for layer in added),
            "unchanged": _median(lambda layer=layer: _build(engine, [server, layer]) for layer in added),
        }
    peers = {
        "minbase": _peer([minbase] * len(ADDED), directory, "minbase"),
        "server": _peer([server] * len(ADDED), directory, "server"),
    }
    peers["server_plus_one"] = peers["unchanged"] = _peer(grown, directory, "grown")
    version = subprocess.run(["mmdebstrap", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    command = f"org.kiln.deb; theirs: {version} --variant=apt --mode=root"
    return [compare(f"debian.{name}", ours[name], peers[name], "s", command) for name in ours]


def _without(tree: LockedTree, below: LockedTree) -> LockedTree:
    names = {package.name for package in below.packages}
    return replace(tree, packages=tuple(package for package in tree.packages if package.name not in names))


def _build(engine: Engine, layers: Sequence[LockedTree], epoch: int = 0) -> None:
    stages = [deb_stage("amd64", layer) for layer in layers]
    pipeline = {"name": "os", "runner": "org.osbuild.linux", "source-epoch": epoch, "stages": stages}
    sources = {"org.kiln.mirror": {"items": mirror_items(layers)}}
    engine.build(engine.load({"version": "2", "pipelines": [pipeline], "sources": sources}), ["os"])


def _peer(trees: Sequence[LockedTree], directory: Path, name: str) -> float:
    places = [directory / f"archive-{name}-{number}" for number in range(len(trees))]
    for tree, place in zip(trees, places, strict=True):
        archive(tree, directory, place)
    return _median(
        lambda tree=tree, place=place: theirs(tree, place, place / "tree")
        for tree, place in zip(trees, places, strict=True)
    )


def _median(works: Iterable[Callable[[], object]]) -> float:
    seconds = []
    for work in works:
        started = time.monotonic()
        work()
        seconds.append(time.monotonic() - started)
    return statistics.median(seconds)
