"""What an assertion type is: its parameters, what it needs to see, and the verdict on what was seen."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from kiln.trial.model import Verdict
from kiln.trial.observe import Answer, Need, Seen

P = TypeVar("P")

SHOWN_CHARACTERS: Final = 300


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict with what was expected and what was found; *evidence* is long output worth keeping.

    *final* says that time will not change it, even where the type `settles`; *keep* that a pass
    keeps its evidence, too.
    """

    verdict: Verdict
    expected: str
    got: str
    evidence: str = ""
    final: bool = False
    keep: bool = False


@dataclass(frozen=True, slots=True)
class AssertionType(Generic[P]):
    """One word of the vocabulary.

    What it means, and the defaults of its parameters, stand in `kiln.authoring.recipe.assertions`. *params* is a frozen
    dataclass whose constructor raises ValueError for values that make no sense. *settles* says that a failure soon
    after boot may pass a little later, so that it is looked at again.
    """

    name: str
    params: type[P]
    needs: Callable[[P], tuple[Need, ...]]
    decide: Callable[[P, Seen], Outcome]
    settles: bool = False


def verdict(good: bool, expected: str, got: str, evidence: str = "") -> Outcome:
    """Return `pass` or `fail`."""
    return Outcome("pass" if good else "fail", expected, short(got), evidence)


def never(expected: str, got: str) -> Outcome:
    """Return `fail` for what waiting cannot mend."""
    return Outcome("fail", expected, short(got), final=True)


def not_seen(expected: str, answer: Answer) -> Outcome:
    """Return `error`: the check could not be carried out, which says nothing about the image."""
    return Outcome(
        "error", expected, short(f"could not be looked at: {answer.errors or answer.text.strip() or 'no answer'}")
    )


def short(text: str) -> str:
    """Return *text* on one line, cut where a table would no longer hold it."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"


def require(pattern: str, value: str, what: str) -> None:
    """Raise ValueError unless *value* matches the whole *pattern*."""
    if re.fullmatch(pattern, value) is None:
        raise ValueError(f"{value!r} is not {what}")


def require_port(port: int) -> None:
    """Raise ValueError unless *port* is one."""
    if not 1 <= port <= 65535:
        raise ValueError(f"{port} is not a port (1 to 65535)")


def require_path(path: str) -> None:
    """Raise ValueError unless *path* is absolute and on one line."""
    require(r"/[^\0-\x1f\x7f]*", path, "an absolute path")


def scalar_text(value: object, what: str) -> str:
    """Return a string, a number or a boolean as a configuration file spells it. Raises ValueError for anything else."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str) and "\n" not in value and "\0" not in value:
        return value
    raise ValueError(f"{what} must be a string on one line, a number or a boolean")


def require_pattern(pattern: str | None) -> None:
    """Raise ValueError unless *pattern* is a regular expression."""
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
