"""Following a build more closely than events allow: the command line's monitors need plans, results and sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from kiln.engine.execution.model import StageRun
from kiln.engine.execution.sources import SourceItem
from kiln.engine.manifest.model import Pipeline, Source

SERVICES: Final = "org.osbuild"
"""The source of services' output in events."""


class Observer(Protocol):
    """Whoever wants to know. Called from several threads, in the order of what happens to one pipeline."""

    def planned(self, sources: Sequence[Source], pipelines: Sequence[Pipeline]) -> None:
        """These sources are looked at and these pipelines are built; both are empty if everything is stored."""

    def source_finished(self, source: Source, items: Sequence[SourceItem], error: str | None) -> None:
        """Every needed file of a source is there, or *error* says what was wrong."""

    def stage_finished(self, run: StageRun, error: Mapping[str, Any] | None, *, success: bool) -> None:
        """A stage has ended; *error* is what it sent as an exception. Comes before the event of the same name."""


class NullObserver:
    """Does not want to know."""

    def planned(self, sources: Sequence[Source], pipelines: Sequence[Pipeline]) -> None:
        """Do nothing."""

    def source_finished(self, source: Source, items: Sequence[SourceItem], error: str | None) -> None:
        """Do nothing."""

    def stage_finished(self, run: StageRun, error: Mapping[str, Any] | None, *, success: bool) -> None:
        """Do nothing."""
