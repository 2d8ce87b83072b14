"""CVSS vectors to scores and ratings (CVSS v2, v3.0, v3.1, v4.0; FIRST, "Qualitative severity rating scale")."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Final

from kiln.vulnerabilities.model import RATINGS, Rating, Severity

_UPPER_TENTHS: Final[tuple[tuple[int, Rating], ...]] = ((0, "none"), (39, "low"), (69, "medium"), (89, "high"))
_WORDS: Final[dict[str, Rating]] = {
    "none": "none",
    "unimportant": "none",
    "negligible": "low",
    "low": "low",
    "moderate": "medium",
    "medium": "medium",
    "important": "high",
    "high": "high",
    "critical": "critical",
}


@functools.lru_cache(maxsize=65536)
def score_tenths(vector: str) -> int | None:
    """Return the base score of a CVSS vector in tenths, or None if it is not one that can be read."""
    from cvss import CVSS2, CVSS3, CVSS4  # noqa: PLC0415 - only a scan with findings needs it
    from cvss.exceptions import CVSSError  # noqa: PLC0415

    scheme = CVSS4 if vector.startswith("CVSS:4") else CVSS3 if vector.startswith("CVSS:3") else CVSS2
    try:
        return round(float(scheme(vector).base_score) * 10)
    except (CVSSError, ValueError, KeyError):
        return None


def rating_of(tenths: int) -> Rating:
    """Return the word for a score."""
    return next((word for upper, word in _UPPER_TENTHS if tenths <= upper), "critical")


def rating_word(word: str) -> Rating:
    """Return the rating that a source's own word means, or `unknown`."""
    return _WORDS.get(word.strip().lower(), "unknown")


def worst(severities: Iterable[Severity]) -> tuple[Rating, int, str]:
    """Return rating, score and vector of the highest score; (`unknown`, -1, "") where there is none.

    Of equal scores the newest scheme counts, so that the answer does not depend on the order.
    """
    scored = [
        (tenths, item.type, item.vector) for item in severities if (tenths := score_tenths(item.vector)) is not None
    ]
    if not scored:
        return "unknown", -1, ""
    tenths, _, vector = max(scored)
    return rating_of(tenths), tenths, vector


def at_least(rating: Rating, threshold: Rating) -> bool:
    """Whether *rating* is as bad as *threshold*, or worse."""
    return RATINGS.index(rating) >= RATINGS.index(threshold)
