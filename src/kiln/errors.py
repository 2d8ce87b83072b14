"""What can go wrong for a reason outside Kiln's own code, as values that a test can ask about.

An error has a domain (which part of the road refused), a reason (a stable word; tests ask for it, never for
the text), a place, a message, detail, a hint, and whether trying again later can help. Only the command line
turns one into text and an exit status. A broken invariant is not one of these: it keeps its traceback.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path


class ExitStatus(IntEnum):
    """Exit statuses of every command; docs/exit-status.md explains them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    INFRASTRUCTURE = 5
    INTERRUPTED = 130


class Domain(Enum):
    """The part of the road that refused."""

    SETTINGS = "settings"
    RECIPE = "recipe"
    DESCRIBE = "describe"
    CATALOG = "catalog"
    LOCK = "lock"
    FETCH = "fetch"
    COMPOSE = "compose"
    MANIFEST = "manifest"
    ENGINE = "engine"
    STORE = "store"
    HOST = "host"
    ARTIFACT = "artifact"
    TRIAL = "trial"
    VULNERABILITY = "vulnerability"
    ATTESTATION = "attestation"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was written: a file (or `<sentence>`), line and column from 1, and a path inside a document."""

    file: str
    line: int | None = None
    column: int | None = None
    path: str = ""

    def __str__(self) -> str:
        text = self.file
        if self.line is not None:
            text += f":{self.line}"
            if self.column is not None:
                text += f":{self.column}"
        return f"{text} ({self.path})" if self.path else text


@dataclass(eq=False)
class KilnError(Exception):
    """One refusal. *reason* is a stable kebab-case word, documented in docs/errors.md."""

    domain: Domain
    reason: str
    message: str
    place: Place | None = None
    detail: str = ""
    hint: str = ""
    exit_status: ExitStatus = ExitStatus.FAILED
    retriable: bool = False

    def __post_init__(self) -> None:
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message

    def to_document(self) -> dict[str, object]:
        """Return the error as the JSON object that `--json` prints."""
        place = self.place
        return {
            "kind": "kiln.error/v1",
            "domain": self.domain.value,
            "reason": self.reason,
            "message": self.message,
            "place": None
            if place is None
            else {"file": place.file, "line": place.line, "column": place.column, "path": place.path},
            "detail": self.detail,
            "hint": self.hint,
            "retriable": self.retriable,
            "exitStatus": int(self.exit_status),
        }


def disk_full(path: Path, domain: Domain) -> KilnError:
    """Return the error for ENOSPC while writing below *path*."""
    return KilnError(
        domain,
        "no-space",
        f"no space left on the disk that holds {path}",
        hint="free some space (`kiln doctor` shows what is free), or set KILN_STATE to a larger disk; "
        "what was finished is kept and the next run goes on from there",
        exit_status=ExitStatus.INFRASTRUCTURE,
        retriable=True,
    )
