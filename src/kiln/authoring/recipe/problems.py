"""What is wrong with a document, collected: a person who fixes a file wants to see everything at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from rapidfuzz.distance import OSA

from kiln.errors import Domain, ExitStatus, KilnError, Place

MAX_SHOWN: Final = 20  # more lines than a terminal shows help nobody
_CLOSE_ENOUGH: Final = 0.6  # of OSA similarity: `fetures` and `features` have 0.88, `ssh` and `nginx` 0


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. *reason* is a stable word; *path* is inside the document (`features[2].options`)."""

    reason: str
    message: str
    line: int
    column: int
    path: str
    hint: str = ""
    domain: Domain = Domain.RECIPE


@dataclass(slots=True)
class Problems:
    """The findings about one file."""

    file: str
    found: list[Problem] = field(default_factory=list)

    def add(self, problem: Problem) -> None:
        """Note one finding."""
        self.found.append(problem)

    def check(self) -> None:
        """Raise KilnError for what was found: the first in the file in the message, the others in the detail."""
        if self.found:
            raise self.error()

    def error(self) -> KilnError:
        """Return the error for what was found, which must be something."""
        ordered = sorted(self.found, key=lambda problem: (problem.line, problem.column))
        first, *others = ordered
        lines = [f"{self._place(other)}: {other.message}{_in_brackets(other.hint)}" for other in others[:MAX_SHOWN]]
        if len(others) > MAX_SHOWN:
            lines.append(f"and {len(others) - MAX_SHOWN} more")
        return KilnError(
            first.domain,
            first.reason,
            first.message,
            place=self._place(first),
            detail="\n".join(lines),
            hint=first.hint,
            exit_status=ExitStatus.USAGE,
        )

    def _place(self, problem: Problem) -> Place:
        return Place(self.file, problem.line, problem.column, problem.path)


def closest(word: str, candidates: Iterable[str]) -> str:
    """Return the candidate that *word* most likely is a misspelling of, or an empty text."""
    best, best_score = "", 0.0
    for candidate in sorted(candidates):
        score = OSA.normalized_similarity(word.lower(), candidate.lower())
        if len(word) >= 3 and candidate.lower().startswith(word.lower()):
            score = max(score, 0.7)
        if score > best_score:
            best, best_score = candidate, score
    return best if best_score >= _CLOSE_ENOUGH else ""


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return the hint "did you mean ...?", or an empty text."""
    candidate = closest(word, candidates)
    return f"did you mean `{candidate}`?" if candidate else ""


def _in_brackets(hint: str) -> str:
    return f" ({hint})" if hint else ""
