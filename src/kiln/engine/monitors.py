"""osbuild's monitors: how the command line tells what happens, as text or as records for programs.

Stages run at the same time here, which osbuild's never do. The text monitor shows one stage after the other and holds
back what the others print; the records of the other monitor each have the context of their own stage.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Protocol

from kiln.engine.execution.model import StageRun
from kiln.engine.execution.observer import NullObserver, Observer
from kiln.engine.execution.runners import runner_program
from kiln.engine.execution.services import ORIGIN
from kiln.engine.execution.sources import SourceItem
from kiln.engine.manifest import identity
from kiln.engine.manifest.model import Pipeline, Plan, Source, Stage
from kiln.engine.manifest.modules import Modules
from kiln.events.model import Event, NullSink, Output, Sink, StageFinished, StageStarted

BOLD: Final = "\033[1m"
RESET: Final = "\033[0m"
COMMAND: Final = "osbuild.main_cli"
MONITOR: Final = "osbuild.monitor"
MAX_RESULT_CHARACTERS: Final = 31_000
"""Consumers read lines of at most 64 KiB."""


class Monitor(Sink, Observer, Protocol):
    """A monitor is told of a plan before everything else, and takes messages of the command line."""

    def load(self, plan: Plan, modules: Modules) -> None:
        """Take the plan."""

    def log(self, text: str, origin: str) -> None:
        """Take a message."""


class NullMonitor(NullSink, NullObserver):
    """Tells nothing."""

    def load(self, plan: Plan, modules: Modules) -> None:
        """Do nothing."""

    def log(self, text: str, origin: str) -> None:
        """Do nothing."""


@dataclass(slots=True)
class _Counted:
    """The stages of a pipeline that run, and how many have ended."""

    pipeline: Pipeline
    begun: bool = False
    done: int = 0
    stage: Stage | None = None


class _Follower(NullObserver):
    """What both monitors need: which stage an event is of."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._guard = threading.RLock()
        self._plan = Plan((), ())
        self._modules: Modules | None = None
        self._pipelines: dict[str, _Counted] = {}

    def load(self, plan: Plan, modules: Modules) -> None:
        """Take the plan."""
        self._plan = plan
        self._modules = modules
        self._pipelines = {pipeline.name: _Counted(pipeline) for pipeline in plan.pipelines}

    def write(self, text: str) -> None:
        """Write everything to the descriptor; nobody there is no reason to end a build."""
        data = text.encode("utf-8", "replace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            self._descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def _counted(self, event: StageStarted | StageFinished) -> _Counted:
        counted = self._pipelines[event.pipeline]
        if isinstance(event, StageStarted):
            counted.stage = counted.pipeline.stages[event.index - 1]
        return counted

    def _is_last(self, counted: _Counted) -> bool:
        stages = counted.pipeline.stages
        return counted.stage is not None and counted.stage.id == stages[-1].id


@dataclass(slots=True)
class _Shown:
    """A stage in the text: what it has said, as long as another one is being shown."""

    held: list[str] = field(default_factory=list)
    finished: bool = False


class LogMonitor(_Follower):
    """Headings of pipelines and stages, and what stages print; escape codes only on a terminal."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._terminal = os.isatty(descriptor)
        self._running: dict[str, _Shown] = {}

    def log(self, text: str, origin: str) -> None:
        """Write a message as it is."""
        del origin
        with self._guard:
            self.write(text)

    def source_finished(self, source: Source, items: Sequence[SourceItem], error: str | None) -> None:
        """Write the heading and the end of a source."""
        with self._guard:
            self.write(self._heading(f"source {source.type}", identity.source_id(source.type, source.items)))
            self.write("Build\n  root: <host>\n")
            self.write(f"{error}\n" if error else "")
            self.write(_duration(0.0))

    def emit(self, event: Event) -> None:
        """Write one event, or hold it back."""
        with self._guard:
            match event:
                case StageStarted():
                    self._running[event.stage_id] = _Shown()
                    self._say(event.stage_id, self._start(event))
                case Output() if event.stage_id:
                    self._say(event.stage_id, event.text)
                case Output():
                    self.write(event.text)
                case StageFinished() if event.stage_id in self._running:
                    self._say(event.stage_id, _duration(event.seconds))
                    self._running[event.stage_id].finished = True
                    self._advance()
                case _:
                    return

    def _say(self, id_: str, text: str) -> None:
        shown = self._running.get(id_)
        if shown is None or shown is next(iter(self._running.values())):
            self.write(text)
        else:
            shown.held.append(text)

    def _advance(self) -> None:
        while self._running:
            id_, shown = next(iter(self._running.items()))
            self.write("".join(shown.held))
            shown.held.clear()
            if not shown.finished:
                return
            del self._running[id_]

    def _start(self, event: StageStarted) -> str:
        counted = self._counted(event)
        text = "" if counted.begun else self._begin(counted.pipeline)
        counted.begun = True
        stage = counted.stage
        options = json.dumps({} if stage is None else stage.options, indent=2)
        assembler = f"{self._bold('Assembler')} " if stage is not None and stage.kind == "Assembler" else ""
        return f"{text}{assembler}{self._bold(f'{event.stage}: {event.stage_id}')} {options}\n"

    def _begin(self, pipeline: Pipeline) -> str:
        root = self._plan.build_root(pipeline)
        text = self._heading(pipeline.name, pipeline.id)
        text += f"Build\n  root: {'<host>' if root is None else root.id}\n"
        wanted = self._plan.runner_for(pipeline)
        program = None
        if self._modules is not None:
            program = runner_program(self._modules.libdir, wanted)
        if program is not None:
            text += f"  runner: {program.name} ({program})\n"
        elif wanted is not None:
            text += f"  runner: {wanted}\n"
        if pipeline.source_epoch is not None:
            moment = datetime.fromtimestamp(pipeline.source_epoch).astimezone().strftime("%c")
            text += f"  source-epoch: {moment} [{pipeline.source_epoch}]\n"
        return text

    def _heading(self, name: str, id_: str | None) -> str:
        return f"{self._bold(f'Pipeline {name}: {id_}')}\n"

    def _bold(self, text: str) -> str:
        return f"{RESET}{BOLD}{text}{RESET}" if self._terminal else text


class JSONSeqMonitor(_Follower):
    """Records of RFC 7464. A context is written out once and is then only named by its id."""

    def __init__(self, descriptor: int, clock: Callable[[], float] = time.time) -> None:
        super().__init__(descriptor)
        self._clock = clock
        self._contexts: set[str] = set()
        self._total = 0
        self._done = 0
        self._pipeline: tuple[str | None, str | None] = (None, None)
        self._stage: tuple[str | None, str | None] = (None, None)
        self._results: dict[str, tuple[StageRun, Mapping[str, Any] | None, bool]] = {}

    def planned(self, sources: Sequence[Source], pipelines: Sequence[Pipeline]) -> None:
        """Take how much there is to do."""
        self._total = len(sources) + len(pipelines)

    def log(self, text: str, origin: str) -> None:
        """Write a message."""
        with self._guard:
            self._record(text, origin)

    def source_finished(self, source: Source, items: Sequence[SourceItem], error: str | None) -> None:
        """Write the beginning, the result and the end of a source."""
        name = f"source {source.type}"
        with self._guard:
            self._pipeline = (name, identity.source_id(source.type, source.items))
            self._record(f"Starting pipeline {name}", MONITOR)
            output = f"{name} finished successfully" if error is None else f"{name} finished unsuccessfully: {error}"
            results = [{"checksum": item.checksum, "cached": item.cached} for item in items]
            result: dict[str, Any] = {"name": name, "id": source.type, "success": error is None, "output": output}
            if len(json.dumps(results)) <= MAX_RESULT_CHARACTERS:
                result["results"] = results
            self._record(f"Finished module {name}", MONITOR, result=result)
            self._done += 1
            self._record(f"Finished pipeline {name}", MONITOR)

    def stage_finished(self, run: StageRun, error: Mapping[str, Any] | None, *, success: bool) -> None:
        """Remember the result for the event that comes next."""
        self._results[run.id] = (run, error, success)

    def emit(self, event: Event) -> None:
        """Write one event."""
        with self._guard:
            match event:
                case StageStarted():
                    self._start(event)
                case Output() if event.stage_id:
                    self._at(event.stage_id)
                    self._record(event.text, f"stages/{event.source}")
                case Output():
                    self._record(event.text, ORIGIN)
                case StageFinished():
                    self._finish(event)
                case _:
                    return

    def _start(self, event: StageStarted) -> None:
        counted = self._counted(event)
        self._pipeline = (counted.pipeline.name, counted.pipeline.id)
        if not counted.begun:
            counted.begun = True
            counted.done = event.index - 1
            self._record(f"Starting pipeline {counted.pipeline.name}", MONITOR)
        self._stage = (event.stage, event.stage_id)
        self._record(f"Starting module {event.stage}", MONITOR)

    def _finish(self, event: StageFinished) -> None:
        counted = self._pipelines[event.pipeline]
        self._pipeline = (counted.pipeline.name, counted.pipeline.id)
        self._stage = (event.stage, event.stage_id)
        counted.done += 1
        known = self._results.pop(event.stage_id, None)
        if known is not None:
            run, error, success = known
            output = run.output
            if len(output) > MAX_RESULT_CHARACTERS:
                hidden = len(output) - MAX_RESULT_CHARACTERS
                output = f"[...{hidden} bytes hidden...]\n{output[hidden:]}"
            result = {"name": run.type, "id": run.id, "success": success, "output": output, "error": error}
            options = None if counted.stage is None else dict(counted.stage.options)
            self._record(
                f"Finished module {event.stage}",
                MONITOR,
                result=result,
                options=options,
                duration=event.seconds,
                metadata=None if run.metadata is None else dict(run.metadata),
            )
        if event.success and self._is_last(counted):
            self._done += 1
            self._record(f"Finished pipeline {event.pipeline}", MONITOR)

    def _at(self, stage_id: str) -> None:
        for counted in self._pipelines.values():
            if counted.stage is not None and counted.stage.id == stage_id:
                self._pipeline = (counted.pipeline.name, counted.pipeline.id)
                self._stage = (counted.stage.type, stage_id)
                return

    def _record(self, message: str, origin: str, *, result: Mapping[str, Any] | None = None, **more: Any) -> None:
        record = {
            "message": message,
            "result": result,
            "context": self._context(origin),
            "progress": self._progress(),
            "options": more.get("options"),
            "timestamp": self._clock(),
            "duration": more.get("duration"),
            "metadata": more.get("metadata"),
        }
        self.write(f"\x1e{json.dumps(_without_empty(record))}\n")

    def _context(self, origin: str) -> dict[str, Any]:
        name, id_ = self._pipeline
        stage, stage_id = self._stage
        pipeline = {"name": name, "id": id_, "stage": {"name": stage, "id": stage_id}}
        context: dict[str, Any] = {"origin": origin, "pipeline": pipeline}
        digest = identity.context_id(context)
        if digest in self._contexts:
            return {"id": digest}
        self._contexts.add(digest)
        return {**context, "id": digest}

    def _progress(self) -> dict[str, Any]:
        progress: dict[str, Any] = {"name": "pipelines/sources", "total": self._total, "done": self._done}
        counted = self._pipelines.get(self._pipeline[0] or "")
        if counted is not None and counted.begun and counted.done < len(counted.pipeline.stages):
            total = len(counted.pipeline.stages)
            progress["progress"] = {"name": f"pipeline: {counted.pipeline.name}", "total": total, "done": counted.done}
        return progress


MONITORS: Final[Mapping[str, Callable[[int], Monitor]]] = {
    "NullMonitor": lambda descriptor: NullMonitor(),
    "LogMonitor": LogMonitor,
    "JSONSeqMonitor": JSONSeqMonitor,
}


def _duration(seconds: float) -> str:
    return f"\n⏱  Duration: {seconds:.2f}s\n"


def _without_empty(value: Any) -> Any:
    """Leave out what is None or an empty text, as osbuild does, at every depth of objects."""
    if isinstance(value, Mapping):
        return {key: _without_empty(item) for key, item in value.items() if item is not None and item != ""}
    return value
