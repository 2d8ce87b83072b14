"""The refusal of a request: the place is in the sentence."""

from __future__ import annotations

from typing import Final

from kiln.authoring.describe.model import Words
from kiln.errors import Domain, ExitStatus, KilnError, Place

SENTENCE: Final = "<sentence>"


def refusal(reason: str, message: str, words: Words | None = None, hint: str = "") -> KilnError:
    """Return the error; the column is where *words* start."""
    place = Place(SENTENCE, 1, words.start + 1 if words else 1)
    return KilnError(Domain.DESCRIBE, reason, message, place, hint=hint, exit_status=ExitStatus.USAGE)
