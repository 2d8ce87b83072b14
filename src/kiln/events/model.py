"""The events of a run. Durations are seconds, sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Unit = Literal["bytes", "packages", "stages", "checks", "files", "advisories", "seconds"]


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step of the road begins: `describe`, `resolve`, `lock`, `fetch`, `build`, `test`, ..."""

    step: str
    title: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step has come. *total* is None where it cannot be known; *item* names what is worked on."""

    step: str
    done: int
    total: int | None
    unit: Unit
    item: str = ""


@dataclass(frozen=True, slots=True)
class StageStarted:
    """The engine starts a stage (*index* from 1) of a pipeline."""

    pipeline: str
    stage: str
    stage_id: str
    index: int
    total: int


@dataclass(frozen=True, slots=True)
class StageFinished:
    """A stage has ended; *cached* means that its stored result was used. *host* is the remote host that ran it."""

    pipeline: str
    stage: str
    stage_id: str
    seconds: float
    cached: bool
    success: bool
    host: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """Text that a program printed (a stage, the serial console); for logs, not for the summary.

    *stage_id* tells outputs of stages that run at the same time apart.
    """

    source: str
    text: str
    stage_id: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know; *level* `warning` is repeated at the end of the run."""

    level: Literal["info", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class CheckFinished:
    """One assertion of a test has its verdict."""

    name: str
    verdict: Literal["pass", "fail", "error", "skip"]
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StepFinished:
    """A step has ended. *summary* is one short line, such as `412 packages, 391 MB`."""

    step: str
    seconds: float
    cached: bool
    summary: str = ""


Event = StepStarted | Progress | StageStarted | StageFinished | Output | Notice | CheckFinished | StepFinished


class Sink(Protocol):
    """Whoever wants to know: a terminal, a pipe, a JSON stream, a test."""

    def emit(self, event: Event) -> None:
        """Take one event; must be quick, may be called from any thread, and never raises."""


class NullSink:
    """Drops everything."""

    def emit(self, event: Event) -> None:
        """Drop *event*."""


class CollectingSink:
    """Keeps everything, for tests and for reports."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        """Keep *event*."""
        self.events.append(event)
