"""The engine: a plan goes in, stored trees come out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiln.engine.execution.inputs import check_input
from kiln.engine.execution.keys import Keys
from kiln.engine.execution.libdir import runtime_directory
from kiln.engine.execution.model import BuildResult, StageFailedError, StageRun
from kiln.engine.execution.observer import NullObserver, Observer
from kiln.engine.execution.rootless import refuse_devices
from kiln.engine.execution.source_services import LibdirSources
from kiln.engine.execution.sources import SourceFailedError, SourceFetcher, SourceReport, missing_files, provide, sizes
from kiln.engine.execution.trees import Trees
from kiln.engine.execution.validated import validate_once
from kiln.engine.graph.costs import capacity
from kiln.engine.graph.needed import Job, needed_jobs, reachable
from kiln.engine.manifest.load import load
from kiln.engine.manifest.model import Pipeline, Plan
from kiln.engine.manifest.modules import Modules
from kiln.engine.objects.model import ObjectRef
from kiln.engine.objects.store import ObjectStore
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Sink
from kiln.linux.cgroups import Limits

if TYPE_CHECKING:
    from concurrent.futures import Future

    from kiln.engine.execution.cancel import Cancel
    from kiln.engine.execution.places import Elsewhere
    from kiln.engine.execution.remote.address import Remote


class Engine:
    """Builds plans with the programs of *libdir* into *store*; several builds one after another are fine.

    *jobs* is how many stages run at the same time (by default the number of processors). *stage_timeout_seconds* is
    wall time for each stage. *keep_failed* is a directory that gets a copy of the tree of a stage that failed.
    *observer* is told more than events say. Before the stages that *break_at* names (type, id or `*`), a shell is
    opened in their sandbox. *limits* hold for each stage; without them it may use all that the host has. *remotes* are
    hosts that run stages, too; their results are taken as they are, and their limits are their own.
    """

    def __init__(
        self,
        store: ObjectStore,
        libdir: Path,
        sources: SourceFetcher,
        sink: Sink,
        *,
        jobs: int | None = None,
        stage_timeout_seconds: float | None = None,
        keep_failed: Path | None = None,
        observer: Observer | None = None,
        break_at: str | None = None,
        limits: Limits | None = None,
        remotes: Sequence[Remote] = (),
    ) -> None:
        self._store = store
        self._sources = sources
        self._sink = sink
        self._jobs = jobs or len(os.sched_getaffinity(0))
        self._stage_timeout_seconds = stage_timeout_seconds
        self._keep_failed = keep_failed
        self._observer = observer or NullObserver()
        self._break_at = break_at
        self._limits = limits or Limits()
        self._remotes = remotes
        self._modules = Modules(libdir.resolve())

    def load(self, manifest_document: Mapping[str, Any]) -> Plan:
        """Return the plan of a manifest. Raises KilnError(MANIFEST, ...) with everything that is wrong with it."""
        validate_once(manifest_document, self._modules, self._store.validated)
        return load(manifest_document)

    def build(self, plan: Plan, exports: Sequence[str]) -> BuildResult:
        """Build the pipelines *exports* (names or ids) and whatever they are made of.

        Raises KilnError; StageFailedError when a stage fails. What was finished before stays in the store.
        """
        targets = {name: find_export(plan, name) for name in exports}
        trees = Trees(self._store, Keys(plan, self._modules))
        jobs = needed_jobs(plan, targets.values(), trees.is_stored)
        runs: Mapping[tuple[str, int], StageRun] = {}
        report: SourceReport = {}
        building = {job.pipeline.name: job.pipeline for job in jobs}
        self._observer.planned(plan.sources if jobs else (), tuple(building.values()))
        if jobs:
            _refuse_unsupported(jobs)
            runs, report = self._provide_and_run(plan, trees, jobs)
        stages = tuple(self._stages(plan, trees, targets.values(), runs))
        objects = {name: trees.of(pipeline) for name, pipeline in targets.items()}
        return BuildResult(objects, stages, _metadata(stages), report)

    def stored(self, plan: Plan) -> frozenset[str]:
        """Return the public ids of the stages of a plan whose results are in the store."""
        trees = Trees(self._store, Keys(plan, self._modules))
        return frozenset(
            stage.id
            for pipeline in plan.pipelines
            for index, stage in enumerate(pipeline.stages)
            if trees.is_stored(pipeline, index)
        )

    def export(self, ref: ObjectRef, destination: Path, *, owners: bool = True) -> int:
        """Copy the files of a tree into *destination*, each in one step; returns their bytes.

        Without *owners*, everything belongs to whoever copies. Raises KilnError(ENGINE, "no-space"), OSError.
        """
        return self._store.export(ref, destination, owners=owners)

    def _provide_and_run(
        self, plan: Plan, trees: Trees, jobs: Sequence[Job]
    ) -> tuple[Mapping[tuple[str, int], StageRun], SourceReport]:
        """Have the sources and run the stages, at the same time where some stages do not wait for a source."""
        # What a cached build does not need is not loaded for it.
        from kiln.engine.execution.cancel import Cancel  # noqa: PLC0415
        from kiln.engine.execution.meanwhile import Meanwhile  # noqa: PLC0415

        waiting = frozenset(job.name for job in jobs if missing_files(job.stage, self._store))
        report: SourceReport = {}
        with Cancel() as cancel:
            try:
                if not waiting or not any(not job.needs and job.name not in waiting for job in jobs):
                    report = self._provide(plan, jobs)
                    return self._run(plan, trees, jobs, cancel), report
                # Fetching stays in this thread, where an interrupt ends it.
                run = partial(self._run, plan, trees, jobs, cancel, waiting=waiting)
                with Meanwhile(run, cancel) as stages:
                    report = self._provide(plan, jobs)
                return stages.result(), report
            except StageFailedError as error:
                error.sources = report
                raise

    def _provide(self, plan: Plan, jobs: Sequence[Job]) -> SourceReport:
        try:
            report = provide(plan, [job.stage for job in jobs], self._store, self._sources, self._services())
        except SourceFailedError as error:
            source = next(source for source in plan.sources if source.type == error.type)
            self._observer.source_finished(source, (), error.message)
            raise
        for source in plan.sources:
            self._observer.source_finished(source, report.get(source.type, ()), None)
        return report

    def _services(self) -> LibdirSources:
        runtime = runtime_directory(self._modules.libdir)
        return LibdirSources(self._modules, runtime, self._store.files.parent, self._sink)

    def _run(
        self,
        plan: Plan,
        trees: Trees,
        jobs: Sequence[Job],
        cancel: Cancel,
        fetching: Future[None] | None = None,
        waiting: frozenset[str] = frozenset(),
    ) -> Mapping[tuple[str, int], StageRun]:
        from kiln.engine.execution.build import Build  # noqa: PLC0415
        from kiln.engine.execution.confine import HostConfiner  # noqa: PLC0415
        from kiln.engine.execution.fork_launch import ForkLauncher  # noqa: PLC0415
        from kiln.engine.execution.local import LocalRunner  # noqa: PLC0415
        from kiln.engine.execution.work import StageContext  # noqa: PLC0415

        context = StageContext(
            self._store,
            self._modules,
            runtime_directory(self._modules.libdir),
            self._sink,
            sizes(plan),
            self._stage_timeout_seconds,
            cancel,
            self._keep_failed,
            self._observer,
            self._break_at,
            HostConfiner(replace(self._limits, disk=self._store.root.stat().st_dev)),
        )
        # A shell has the terminal for itself.
        stages = self._jobs if self._break_at is None else 1
        tokens = capacity(stages, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
        with self._elsewhere() as elsewhere, closing(ForkLauncher()) as launcher:
            here = LocalRunner(launcher)
            build = Build(plan, self._modules, trees, jobs, tokens, context, here, elsewhere, fetching, waiting)
            build.run()
        return build.runs

    @contextmanager
    def _elsewhere(self) -> Iterator[Elsewhere]:
        """Yield where stages can run besides this machine; a shell is only opened here."""
        from kiln.engine.execution.places import Nowhere  # noqa: PLC0415 - as above

        if not self._remotes or self._break_at is not None:
            yield Nowhere()
            return
        from kiln.engine.execution.remote.hosts import RemoteHosts  # noqa: PLC0415 - as above
        from kiln.engine.execution.remote.outbox import Outbox  # noqa: PLC0415 - as above

        libdir = self._modules.libdir
        with RemoteHosts(self._remotes, Outbox(self._store, libdir, runtime_directory(libdir))) as hosts:
            yield hosts

    def _stages(
        self, plan: Plan, trees: Trees, targets: Iterable[Pipeline], runs: Mapping[tuple[str, int], StageRun]
    ) -> Iterator[StageRun]:
        for pipeline in reachable(plan, targets):
            for index, stage in enumerate(pipeline.stages):
                run = runs.get((pipeline.name, index))
                if run is None:
                    key = trees.keys.key(pipeline, index)
                    self._store.touch(key)
                    metadata = self._store.metadata(key)
                    host = self._store.host(key)
                    run = StageRun(pipeline.name, stage.type, stage.id, 0.0, True, metadata=metadata or None, host=host)
                yield run


def find_export(plan: Plan, name: str) -> Pipeline:
    """Return the pipeline of an export. Raises KilnError(MANIFEST, "unknown-export")."""
    pipeline = plan.pipeline(name)
    if pipeline is None:
        raise KilnError(
            Domain.MANIFEST,
            "unknown-export",
            f"no pipeline has the name or id `{name}`",
            hint=f"the plan has: {', '.join(pipeline.name for pipeline in plan.pipelines) or 'no pipelines'}",
        )
    return pipeline


def _refuse_unsupported(jobs: Sequence[Job]) -> None:
    if os.geteuid() != 0:
        raise KilnError(
            Domain.HOST,
            "not-root",
            "building needs root: sandboxes and layers are mounted",
            hint="run it with sudo; `kiln-osbuild` makes itself a user namespace where the host allows one",
            exit_status=ExitStatus.INFRASTRUCTURE,
        )
    refuse_devices(job.stage for job in jobs)
    for job in jobs:
        for entry in job.stage.inputs:
            check_input(entry, f"{job.pipeline.name}: {job.stage.type}")


def _metadata(stages: Iterable[StageRun]) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for run in stages:
        if run.metadata:
            result.setdefault(run.pipeline, {}).setdefault(run.type, {}).update(run.metadata)
    return result
