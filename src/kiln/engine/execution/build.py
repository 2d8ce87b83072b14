"""One run over the jobs of a plan: several at the same time, the first failure ends the others."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kiln.engine.execution.inputs import NATIVE_INPUTS
from kiln.engine.execution.model import StageFailedError, StageRun
from kiln.engine.execution.places import Elsewhere, Nowhere, PlaceError
from kiln.engine.execution.runners import runner_program
from kiln.engine.execution.stage import run_stage
from kiln.engine.execution.trees import Trees
from kiln.engine.execution.work import CancelledError, StageContext, StageRunner, StageWork
from kiln.engine.graph.costs import CPU, FETCHING, tokens
from kiln.engine.graph.needed import Job
from kiln.engine.graph.scheduler import LOCAL, Scheduler, Task
from kiln.engine.manifest.model import Pipeline, Plan
from kiln.engine.manifest.modules import Kind, Module, Modules
from kiln.engine.objects.model import ObjectRef
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Notice, Progress, StageFinished, StageStarted
from kiln.linux import mounts

STEP: Final = "build"
FETCH: Final = "fetch"
"""The task of getting source files; the names of jobs have a slash."""


@dataclass(frozen=True, slots=True)
class _Program:
    """What is started for a job; *runner* None means that the engine prepares the build root."""

    module: Module
    runner: Path | None


@dataclass(slots=True)
class Build:
    """Runs *jobs* with the tokens of *capacity* on *runner*, which is this machine, and *elsewhere*.

    *fetching* ends when the source files are there; the jobs named in *waiting* start after it. *runs* has what was
    run, by pipeline and index.
    """

    plan: Plan
    modules: Modules
    trees: Trees
    jobs: Sequence[Job]
    capacity: Mapping[str, int]
    context: StageContext
    runner: StageRunner
    elsewhere: Elsewhere = field(default_factory=Nowhere)
    fetching: Future[None] | None = None
    waiting: frozenset[str] = frozenset()
    runs: dict[tuple[str, int], StageRun] = field(default_factory=dict)
    _by_name: dict[str, Job] = field(init=False)

    def __post_init__(self) -> None:
        self._by_name = {job.name: job for job in self.jobs}

    def run(self) -> None:
        """Run every job. Raises the first error; what runs beside it is ended, what was finished stays stored."""
        works = {job.name: self._check(job) for job in self.jobs}
        places = {LOCAL: self.capacity}
        places |= {name: {CPU: place.slots} for name, place in self.elsewhere.places.items()}
        scheduler = Scheduler(self._tasks(), places)
        failure: BaseException | None = None
        # Each worker has a mount namespace of its own: its mounts are nobody else's and cannot be left behind.
        threads = sum(place[CPU] for place in places.values())
        with ThreadPoolExecutor(threads, "stage", mounts.private_namespace) as pool:
            running: dict[Future[Any], str] = {}
            try:
                while not scheduler.idle:
                    for task in scheduler.start():
                        if task.name == FETCH and self.fetching is not None:
                            running[self.fetching] = FETCH
                        else:
                            runner = self._runner(scheduler.place(task.name))
                            future = pool.submit(self._stage, self._by_name[task.name], works[task.name], runner)
                            running[future] = task.name
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        error = self._ended(running.pop(future), future, scheduler)
                        if error is not None:
                            self.context.cancel.set()
                            failure = _worse(failure, explained(error))
                    if failure is not None and self.fetching in running:
                        # Whoever fetches ends by itself; nobody here waits for it any more.
                        scheduler.fail(running.pop(self.fetching))
            except BaseException:
                self.context.cancel.set()
                raise
        if isinstance(failure, StageFailedError):
            failure.finished = tuple(self.runs.values())
        if failure is not None:
            raise failure

    def _ended(self, name: str, future: Future[Any], scheduler: Scheduler) -> BaseException | None:
        """Tell the scheduler how a task ended; return the error that ends the build."""
        error = future.exception()
        if error is None:
            scheduler.finish(name)
            if name != FETCH:
                self._finished(self._by_name[name], future.result())
            return None
        if not isinstance(error, PlaceError):
            scheduler.fail(name)
        elif scheduler.move(name, lost=error.lost):
            self.context.sink.emit(Notice("warning", f"{error}; what was to run there runs elsewhere"))
            return None
        return error

    def _tasks(self) -> list[Task]:
        fetch = [] if self.fetching is None else [Task(FETCH, tokens=FETCHING)]
        first = frozenset(task.name for task in fetch)
        result = []
        for job in self.jobs:
            choice = self.elsewhere.choose(job)
            needs = job.needs | (first if job.name in self.waiting else frozenset())
            result.append(Task(job.name, needs, tokens(job.stage.type), choice.places, choice.last_resort))
        return fetch + result

    def _runner(self, place: str) -> StageRunner:
        return self.runner if place == LOCAL else self.elsewhere.places[place].runner

    def _check(self, job: Job) -> _Program:
        """Find the programs of a job before anything runs. Raises KilnError."""
        module = self.modules.find(job.stage.kind, job.stage.type)
        if module is None or not module.path.is_file():
            raise KilnError(
                Domain.ENGINE,
                "unknown-stage",
                f"the libdir {self.modules.libdir} has no {job.stage.kind.lower()} `{job.stage.type}`",
            )
        self._check_services("Input", [entry.type for entry in job.stage.inputs if entry.type not in NATIVE_INPUTS])
        self._check_services("Device", [device.type for device in job.stage.devices])
        self._check_services("Mount", [mount.type for mount in job.stage.mounts])
        return _Program(module, runner_program(self.modules.libdir, self.plan.runner_for(job.pipeline)))

    def _check_services(self, kind: Kind, names: Sequence[str]) -> None:
        for name in names:
            module = self.modules.find(kind, name)
            if module is None or not module.path.is_file():
                raise KilnError(
                    Domain.ENGINE,
                    "unknown-service",
                    f"the libdir {self.modules.libdir} has no program for the {kind.lower()} `{name}`",
                )

    def _finished(self, job: Job, run: StageRun) -> None:
        self.runs[job.pipeline.name, job.index] = run
        self.context.sink.emit(Progress(STEP, len(self.runs), len(self.jobs), "stages", job.stage.type))

    def _stage(self, job: Job, program: _Program, runner: StageRunner) -> StageRun:
        stage, name, store, sink = job.stage, job.pipeline.name, self.context.store, self.context.sink
        key = self.trees.keys.key(job.pipeline, job.index)
        started = time.monotonic()
        with ExitStack() as held:
            try:
                existing = held.enter_context(store.claim(key, cancelled=self.context.cancel.is_set))
            except KilnError:
                if self.context.cancel.is_set():
                    raise CancelledError from None
                raise
            if existing is not None:
                # Another process, or an equal pipeline of this plan, has made it since the jobs were listed.
                host = store.host(key)
                sink.emit(StageFinished(name, stage.type, stage.id, 0.0, True, True, host))
                return StageRun(name, stage.type, stage.id, 0.0, True, metadata=store.metadata(key) or None, host=host)
            sink.emit(StageStarted(name, stage.type, stage.id, job.index + 1, len(job.pipeline.stages)))
            ended, success, host = True, False, ""
            try:
                _, run = run_stage(self._work(job, key, program), self.context, runner)
                success, host = True, run.host
                self.context.observer.stage_finished(run, None, success=True)
            except StageFailedError as error:
                host = error.run.host
                self.context.observer.stage_finished(error.run, error.exception(), success=False)
                raise
            except PlaceError:
                ended = False  # it may start again elsewhere
                raise
            finally:
                seconds = time.monotonic() - started
                if ended:
                    sink.emit(StageFinished(name, stage.type, stage.id, seconds, False, success, host))
        return run

    def _work(self, job: Job, key: str, program: _Program) -> StageWork:
        build = self.plan.build_root(job.pipeline)
        inputs: dict[str, Pipeline] = {
            other.name: other
            for other in self.plan.pipelines
            if any(other.name in entry.pipelines for entry in job.stage.inputs)
        }
        trees: Mapping[str, ObjectRef] = {name: self.trees.of(pipeline) for name, pipeline in inputs.items()}
        return StageWork(
            job.pipeline,
            job.stage,
            program.module,
            key,
            base=self.trees.after(job.pipeline, job.index),
            build=None if build is None else self.trees.of(build),
            trees=trees,
            runner=program.runner,
        )


def explained(error: BaseException) -> BaseException:
    """Return an error in the words of whoever can repair it: a pool only says that it is broken."""
    if not isinstance(error, BrokenExecutor):
        return error
    return KilnError(
        Domain.HOST,
        "no-mount-namespace",
        "this process may not make a mount namespace, which every sandbox needs",
        hint="in a container, allow it CAP_SYS_ADMIN; `kiln doctor` checks it",
        exit_status=ExitStatus.INFRASTRUCTURE,
    )


def _worse(first: BaseException | None, second: BaseException) -> BaseException:
    """Return the error to report: the first one that is not only the end of a neighbour."""
    return second if first is None or isinstance(first, CancelledError) else first
