"""What is known about a stage before it runs, what all stages of a build share, and where a stage can run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from kiln.engine.execution.buildroot import Skeleton
from kiln.engine.execution.cancel import Cancel
from kiln.engine.execution.model import StageRun
from kiln.engine.execution.observer import NullObserver, Observer
from kiln.engine.manifest.model import Pipeline, Stage
from kiln.engine.manifest.modules import Module, Modules
from kiln.engine.objects.model import ObjectRef
from kiln.engine.objects.store import ObjectStore
from kiln.engine.objects.working import WorkingTree
from kiln.events.model import Sink
from kiln.linux.confinement import UNCONFINED, Confinement


class CancelledError(Exception):
    """The build was ended from outside while this stage ran."""


@dataclass(frozen=True, slots=True)
class StageWork:
    """One stage and what it works with. *build* None is the host; *runner* None means that the engine prepares it."""

    pipeline: Pipeline
    stage: Stage
    module: Module
    key: str
    base: ObjectRef
    build: ObjectRef | None
    trees: Mapping[str, ObjectRef]
    runner: Path | None

    @property
    def name(self) -> str:
        """The stage as messages name it."""
        return f"stage {self.stage.type} of the pipeline `{self.pipeline.name}`"


class Confiner(Protocol):
    """Whoever decides what holds the sandbox of a stage besides its namespaces."""

    def confine(self, work: StageWork, dev: Path) -> Confinement:
        """Return the limits and the filter for one run of a stage, whose devices are in *dev*.

        Raises KilnError, OSError.
        """

    def release(self, confinement: Confinement) -> None:
        """Take back what `confine` made; everything in the sandbox has ended."""


class Unconfined:
    """No limits: a stage has what its namespaces and capabilities leave it."""

    def confine(self, work: StageWork, dev: Path) -> Confinement:
        """Return no limits."""
        del work, dev
        return UNCONFINED

    def release(self, confinement: Confinement) -> None:
        """Do nothing."""


@dataclass(slots=True)
class StageContext:
    """What all stages of a build share."""

    store: ObjectStore
    modules: Modules
    runtime: Path
    sink: Sink
    sizes: Mapping[str, int]
    timeout_seconds: float | None
    cancel: Cancel
    keep_failed: Path | None
    observer: Observer = field(default_factory=NullObserver)
    break_at: str | None = None
    confiner: Confiner = field(default_factory=Unconfined)
    skeletons: dict[str, Skeleton] = field(default_factory=dict)
    guard: threading.Lock = field(default_factory=threading.Lock)


class StageRunner(Protocol):
    """Where a stage runs: in a sandbox of this machine, or elsewhere."""

    def run(self, work: StageWork, context: StageContext, working: WorkingTree) -> StageRun:
        """Run the stage on *working*, which starts as its base; its changes stay there.

        Raises StageFailedError, CancelledError, ServiceError, KilnError, OSError; what the tree holds then is nobody's.
        """
