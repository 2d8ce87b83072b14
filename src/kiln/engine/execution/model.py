"""What a build says about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kiln.engine.execution.sources import SourceReport
from kiln.engine.objects.model import ObjectRef
from kiln.errors import Domain, KilnError


@dataclass(frozen=True, slots=True)
class StageRun:
    """A stage of a build. *output* is what it printed (the end of it, where it was much); empty if *cached*.

    *host* is the remote host that ran it, whose result was taken as it is; empty for this machine.
    """

    pipeline: str
    type: str
    id: str
    seconds: float
    cached: bool
    output: str = ""
    metadata: Mapping[str, Any] | None = None
    host: str = ""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """*objects* by export name as given; *stages* in the plan's order; *metadata* by pipeline and stage type.

    *sources* has the files that were needed of each source.
    """

    objects: Mapping[str, ObjectRef]
    stages: tuple[StageRun, ...]
    metadata: Mapping[str, Mapping[str, Mapping[str, Any]]]
    sources: SourceReport = field(default_factory=dict)


class StageFailedError(KilnError):
    """A stage did not succeed. *error* is what it sent as an exception, if it did."""

    def __init__(
        self, reason: str, message: str, *, run: StageRun, error: Mapping[str, Any] | None, detail: str, hint: str
    ) -> None:
        super().__init__(Domain.ENGINE, reason, message, detail=detail, hint=hint)
        self.run = run
        self.error = error
        self.finished: tuple[StageRun, ...] = ()
        """The stages that had run before."""

        self.sources: SourceReport = {}
        """The source files that were there for it."""

    def exception(self) -> Mapping[str, Any] | None:
        """Return what ended the stage as osbuild's JSON has it; None where its status and output say everything."""
        if self.error is not None or self.reason == "stage-failed":
            return self.error
        return {"type": "exception", "data": {"type": self.reason, "value": self.message}}
