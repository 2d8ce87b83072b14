"""What a sentence was understood to mean, and what led there, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kiln.authoring.recipe.model import Recipe

How = Literal["id", "phrase", "typo"]


@dataclass(frozen=True, slots=True)
class DescribeDefaults:
    """What is taken where the request says nothing: from the settings."""

    base: str
    hardening: Literal["none", "minimal", "standard", "strict"]


@dataclass(frozen=True, slots=True)
class Words:
    """A piece of the request; *start* and *end* count characters from 0, *text* is `request[start:end]`."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Selection:
    """A feature that the request names: by its id, by a phrase of the catalogue, or by one with a typing error.

    *score* is 1 for what is written as the catalogue has it, less for typing errors.
    """

    feature: str
    words: Words
    how: How
    score: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A feature that shares words with the request but was not selected; *score* is the share of the words' weight."""

    feature: str
    words: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class Slot:
    """Another choice that the request makes: `base`, `hardening`, `disk`, `hostname` and so on; or a default."""

    name: str
    value: str
    words: Words | None
    """None where the value is a default of the settings."""


@dataclass(frozen=True, slots=True)
class Note:
    """Words that led to nothing, and why."""

    message: str
    words: Words


@dataclass(frozen=True, slots=True)
class Question:
    """Words that may mean several features just as well; *options* begin with the one that was taken."""

    words: Words
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Interpretation:
    """The reading of a request."""

    request: str
    """The text, unchanged."""
    recipe: Recipe
    selected: tuple[Selection, ...]
    considered: tuple[Candidate, ...]
    negated: tuple[Selection, ...]
    slots: tuple[Slot, ...]
    notes: tuple[Note, ...]
    questions: tuple[Question, ...] = ()

    def causes(self) -> dict[str, str]:
        """Return what led to each choice, as `kiln.authoring.catalog.resolve.resolve` takes it."""
        causes = {choice.feature: f'request "{choice.words.text}"' for choice in self.selected}
        for slot in self.slots:
            if slot.name in ("base", "hardening"):
                causes[slot.name] = f'request "{slot.words.text}"' if slot.words else "settings"
        return causes
