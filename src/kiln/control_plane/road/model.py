"""What goes into a run of the road and what comes out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from kiln.artifact.model import Artifact
from kiln.engine.execution.model import StageRun
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.trial.machine import Firmware
from kiln.trial.model import TestReport

Form = Literal["sentence", "recipe"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a person gave: a sentence, or a recipe file's text; kept unchanged."""

    form: Form
    text: str
    file: str = ""
    """Name of the recipe file, for messages; empty for a sentence."""
    answers: tuple[tuple[str, str], ...] = ()
    """Words of a sentence that could be read in two ways -> the feature that its author said they mean."""


def firmware_named(text: str) -> Firmware:
    """Return the firmware of that name. Raises KilnError(SETTINGS, "bad-option")."""
    for name in get_args(Firmware):
        if text == name:
            return name  # type: ignore[no-any-return]
    raise KilnError(
        Domain.SETTINGS,
        "bad-option",
        f"there is no firmware `{text}`",
        hint=f"choose {' or '.join(get_args(Firmware))}",
        exit_status=ExitStatus.USAGE,
    )


@dataclass(frozen=True, slots=True)
class Order:
    """A request and how it shall be carried out."""

    request: Request
    directory: Path | None = None
    """The image directory; None means `images/<name>` below the working directory."""
    update_lock: bool = False
    firmware: Firmware = "bios"
    outputs: tuple[str, ...] = ()
    """Further forms of the image, beside those of the recipe (`kiln.authoring.recipe.outputs`)."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step of a finished run."""

    step: str
    seconds: float
    cached: bool
    summary: str


@dataclass(frozen=True, slots=True)
class StageTally:
    """How many stages the engine ran and how many it took from its store; and of both, how many remote hosts made."""

    ran: int
    cached: int
    remote: int = 0

    def __str__(self) -> str:
        text = f"{self.ran} stages run, {self.cached} from the store"
        return f"{text}, {self.remote} of them made on remote hosts" if self.remote else text

    @classmethod
    def of(cls, stages: Iterable[StageRun]) -> StageTally:
        """Count the stages of a build."""
        known = tuple(stages)
        cached = sum(stage.cached for stage in known)
        return cls(ran=len(known) - cached, cached=cached, remote=sum(bool(stage.host) for stage in known))


@dataclass(frozen=True, slots=True)
class Built:
    """A finished run. Sizes are bytes."""

    name: str
    directory: Path
    artifacts: tuple[Artifact, ...]
    package_count: int
    download_bytes: int
    lock_digest: str
    tree_id: str
    verification_id: str
    record_id: str
    report: TestReport
    steps: tuple[StepReport, ...]
    stages: StageTally

    @property
    def disk(self) -> Artifact:
        """The image that boots."""
        return next(artifact for artifact in self.artifacts if artifact.role == "disk")
