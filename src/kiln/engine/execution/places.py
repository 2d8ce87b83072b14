"""Where the stages of a build can run besides this machine, and what happens when they cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kiln.engine.execution.work import StageRunner
from kiln.engine.graph.needed import Job
from kiln.engine.graph.scheduler import LOCAL
from kiln.errors import Domain, ExitStatus, KilnError


class PlaceError(KilnError):
    """A stage could not run at a place, through no fault of its own.

    *lost* means that nothing else will run there either; else other stages may.
    """

    def __init__(
        self, reason: str, message: str, *, lost: bool, detail: str = "", hint: str = "", retriable: bool = False
    ) -> None:
        super().__init__(
            Domain.ENGINE,
            reason,
            message,
            detail=detail,
            hint=hint,
            exit_status=ExitStatus.INFRASTRUCTURE,
            retriable=retriable,
        )
        self.lost = lost


@dataclass(frozen=True, slots=True)
class Place:
    """*slots* stages can run there at the same time."""

    slots: int
    runner: StageRunner


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a job may run, the best first, and where if none of these is left."""

    places: tuple[str, ...] = (LOCAL,)
    last_resort: tuple[str, ...] = ()


class Elsewhere(Protocol):
    """Whoever knows other places."""

    @property
    def places(self) -> Mapping[str, Place]:
        """The places by name, without this machine."""

    def choose(self, job: Job) -> Choice:
        """Return where a job may run. Raises KilnError."""


class Nowhere:
    """Every stage runs on this machine."""

    @property
    def places(self) -> Mapping[str, Place]:
        """There are none."""
        return {}

    def choose(self, job: Job) -> Choice:
        """Return this machine."""
        del job
        return Choice()
