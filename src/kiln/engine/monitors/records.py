"""The monitor that writes records of RFC 7464, each with the context of its own stage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kiln.engine.execution.model import StageRun
from kiln.engine.execution.observer import SERVICES
from kiln.engine.execution.sources import SourceItem
from kiln.engine.manifest import identity
from kiln.engine.manifest.model import Pipeline, Source
from kiln.engine.monitors.follow import Follower
from kiln.events.model import Event, Notice, Output, StageFinished, StageStarted

MONITOR: Final = "osbuild.monitor"
MAX_RESULT_CHARACTERS: Final = 31_000
"""Consumers read lines of at most 64 KiB."""


class JSONSeqMonitor(Follower):
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
        with self.guard:
            self._record(text, origin)

    def source_finished(self, source: Source, items: Sequence[SourceItem], error: str | None) -> None:
        """Write the beginning, the result and the end of a source."""
        name = f"source {source.type}"
        with self.guard:
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
        with self.guard:
            match event:
                case StageStarted():
                    self._start(event)
                case Output() if event.stage_id:
                    self._at(event.stage_id)
                    self._record(event.text, f"stages/{event.source}")
                case Output():
                    self._record(event.text, SERVICES)
                case StageFinished():
                    self._finish(event)
                case Notice():
                    self._record(event.text, MONITOR)
                case _:
                    return

    def _start(self, event: StageStarted) -> None:
        counted = self.counted(event)
        self._pipeline = (counted.pipeline.name, counted.pipeline.id)
        if not counted.begun:
            counted.begun = True
            counted.done = event.index - 1
            self._record(f"Starting pipeline {counted.pipeline.name}", MONITOR)
        self._stage = (event.stage, event.stage_id)
        self._record(f"Starting module {event.stage}", MONITOR)

    def _finish(self, event: StageFinished) -> None:
        counted = self.pipelines[event.pipeline]
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
        if event.success and self.is_last(counted):
            counted.ended = True
            self._done += 1
            self._record(f"Finished pipeline {event.pipeline}", MONITOR)

    def _at(self, stage_id: str) -> None:
        for counted in self.pipelines.values():
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
        counted = self.pipelines.get(self._pipeline[0] or "")
        if counted is not None and counted.begun and not counted.ended:
            total = len(counted.pipeline.stages)
            progress["progress"] = {"name": f"pipeline: {counted.pipeline.name}", "total": total, "done": counted.done}
        return progress


def _without_empty(value: Any) -> Any:
    """Leave out what is None or an empty text, as osbuild does, at every depth of objects."""
    if isinstance(value, Mapping):
        return {key: _without_empty(item) for key, item in value.items() if item is not None and item != ""}
    return value
