"""Timing and telling of steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kiln.control_plane.road.model import StepReport
from kiln.events.model import Sink, StepFinished, StepStarted


@dataclass(slots=True)
class Running:
    """A step while it runs; the step itself says what it was in the end."""

    summary: str = ""
    cached: bool = False
    paused_seconds: float = 0.0


@dataclass(slots=True)
class Steps:
    """The steps of one run, in order."""

    sink: Sink
    reports: list[StepReport] = field(default_factory=list)

    @contextmanager
    def run(self, step: str, title: str) -> Iterator[Running]:
        """Tell the sink that a step begins and, if the block ends well, how it ended."""
        self.sink.emit(StepStarted(step, title))
        running = Running()
        started = time.monotonic()
        yield running
        seconds = time.monotonic() - started - running.paused_seconds
        self.reports.append(StepReport(step, seconds, running.cached, running.summary))
        self.sink.emit(StepFinished(step, seconds, running.cached, running.summary))
