"""From a plan to artifacts in the image directory: fetch, build, export, take stock."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiln.artifact.inventory import dpkg_manifest, squashfs_hashes
from kiln.artifact.model import QCOW2, SQUASHFS, Artifact, Role
from kiln.artifact.stock import inventory_bytes, take_stock
from kiln.attestation.build_log import stages_bytes
from kiln.authoring.compose.outputs import OUTPUTS, file_name, pipeline_name
from kiln.authoring.compose.plan import EXPORTS, TREE_PIPELINE
from kiln.control_plane.road.model import StageTally
from kiln.control_plane.road.steps import Running, Steps
from kiln.engine.execution.engine import Engine
from kiln.engine.execution.model import BuildResult
from kiln.engine.execution.sources import MirrorSources, WantedFile
from kiln.engine.objects.store import ObjectStore
from kiln.events.model import Progress, Sink, StepStarted
from kiln.linux.cgroups import Limits
from kiln.linux.files import write_atomic
from kiln_wire import layout
from kiln_wire.digest import Digest

if TYPE_CHECKING:
    from kiln.engine.execution.remote.address import Remote
    from kiln.fetch.client import Fetcher

BUILD_TITLE = "building the image"


@dataclass(frozen=True, slots=True)
class Produced:
    """Artifacts with their digests, and how the engine came to them."""

    artifacts: tuple[Artifact, ...]
    tree_id: str
    stages: StageTally


class CountedSources:
    """Fetches what is missing as a step of its own, in the middle of the build step."""

    def __init__(
        self, open_fetcher: Callable[[], AbstractContextManager[Fetcher]], steps: Steps, outer: Running
    ) -> None:
        self._inner = MirrorSources(open_fetcher, step="fetch")
        self._steps = steps
        self._outer = outer

    def fetch(self, wanted: Sequence[WantedFile]) -> None:
        """Put every file at its destination. Raises KilnError(FETCH, ...)."""
        started = time.monotonic()
        with self._steps.run("fetch", "fetching packages") as running:
            self._inner.fetch(wanted)
            amount = sum(file.size_bytes or 0 for file in wanted)
            running.summary = f"{len(wanted)} files, {amount / 1000**2:.0f} MB"
        self._outer.paused_seconds += time.monotonic() - started
        self._steps.sink.emit(StepStarted("build", BUILD_TITLE))


def produce(
    plan: dict[str, Any],
    name: str,
    directory: Path,
    *,
    outputs: Sequence[str],
    store_root: Path,
    libdir: Path,
    limits: Limits,
    open_fetcher: Callable[[], AbstractContextManager[Fetcher]],
    steps: Steps,
    running: Running,
    remotes: Sequence[Remote] = (),
    background: bool = True,
) -> Produced:
    """Build *plan* and put its artifacts, inventories and build log into *directory*; *outputs* are further forms.

    Without *background* no process goes on cleaning the store when this has returned.

    Raises KilnError(FETCH, ENGINE, STORE).
    """
    sink = steps.sink
    with ObjectStore(store_root, background=background) as store:
        fetcher = CountedSources(open_fetcher, steps, running)
        engine = Engine(store, libdir, fetcher, sink, limits=limits, remotes=remotes)
        exports = [*EXPORTS, *map(pipeline_name, outputs)]
        result = engine.build(engine.load(plan), [*exports, TREE_PIPELINE])
        (directory / layout.EVIDENCE).mkdir(parents=True, exist_ok=True)
        if any(not stage.cached for stage in result.stages) or not (directory / layout.STAGES).exists():
            # A run that found everything in the store has nothing to add to what the stages once printed.
            write_atomic(directory / layout.BUILD_LOG, build_log(result))
            write_atomic(directory / layout.STAGES, stages_bytes(result))
        for export in exports:
            sink.emit(StepStarted("build", f"exporting {export}"))
            engine.export(result.objects[export], directory)
        sink.emit(StepStarted("build", "taking stock of the image's files"))
        tree = result.objects[TREE_PIPELINE]
        with store.mounted(tree) as path:
            write_atomic(directory / layout.SQUASHFS_HASHES, squashfs_hashes(path, sink))
            write_atomic(directory / layout.DPKG_MANIFEST, dpkg_manifest(path))
            write_atomic(directory / layout.INVENTORY, inventory_bytes(take_stock(path, sink)))
        tree_id = str(store.content_id(tree))
    artifacts = (
        _artifact(directory / f"{name}.qcow2", QCOW2, "disk", sink),
        _artifact(directory / f"{name}.squashfs", SQUASHFS, "root", sink),
        *(_artifact(directory / file_name(name, item), OUTPUTS[item].media_type, "further", sink) for item in outputs),
    )
    return Produced(artifacts, tree_id, StageTally.of(result.stages))


def build_log(result: BuildResult) -> bytes:
    """Return the stages of a build with what each printed."""
    lines = []
    for stage in result.stages:
        how = "from the store" if stage.cached else f"{stage.seconds:.2f} s"
        how += f"  made on {stage.host}" if stage.host else ""
        lines.append(f"== {stage.pipeline}: {stage.type}  {stage.id}  {how}\n")
        if stage.output:
            lines.append(stage.output.rstrip("\n") + "\n")
    return "".join(lines).encode("utf-8", "replace")


def _artifact(path: Path, media_type: str, role: Role, sink: Sink) -> Artifact:
    total = path.stat().st_size
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        sink.emit(Progress("build", done, total, "bytes", f"hashing {path.name}"))

    return Artifact(path.name, media_type, Digest.of_file(path, count), total, role)
