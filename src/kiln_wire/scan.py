"""What a vulnerability scan and VEX statements say, as far as a policy asks.

References: in-toto attestation, vulns predicate 0.2; OpenVEX 0.2.0; CVSS 3.1, section 5 (the severities' limits).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from kiln_wire.tuf import seconds

SEVERITIES: Final = ("critical", "high", "medium", "low", "unknown")
_RANKS: Final = (*SEVERITIES, "none")
_LIMITS: Final = ((9.0, "critical"), (7.0, "high"), (4.0, "medium"), (0.1, "low"))
_HARMLESS: Final = ("not_affected", "fixed")


class ScanError(ValueError):
    """A statement lacks what is read here."""


@dataclass(frozen=True, slots=True)
class Scan:
    """Vulnerabilities by id with their severities, and when the scan ended (seconds since 1970)."""

    severities: dict[str, str]
    """Of those that apply: neither harmless by its own annotation nor of the severity `none`."""
    finished: int
    uncovered: int
    """Components for which the scanner had no advisories."""


def read_scan(predicate: Any) -> Scan:
    """Read a vulns 0.2 predicate; the worst severity of an id counts. Raises ScanError."""
    try:
        found: dict[str, str] = {}
        for item in predicate["scanner"]["result"]:
            notes = item.get("annotations") or []
            rated = [_severity(entry) for entry in item.get("severity", [])]
            severity = min(rated, key=_RANKS.index, default="unknown")
            if severity == "none" or any((note.get("vex") or {}).get("status") in _HARMLESS for note in notes):
                continue
            found[item["id"]] = min(severity, found.get(item["id"], severity), key=_RANKS.index)
        coverage = [part for note in predicate["scanner"].get("annotations") or [] for part in note.get("coverage", [])]
        uncovered = sum(int(part["components"]) for part in coverage if not part["covered"])
        return Scan(found, seconds(predicate["metadata"]["scanFinishedOn"]), uncovered)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ScanError(f"{type(error).__name__}: {str(error)[:200]}") from None


def read_harmless(predicates: Iterable[Any]) -> frozenset[str]:
    """Return the ids and aliases that OpenVEX documents call `not_affected` or `fixed`. Raises ScanError."""
    try:
        names: set[str] = set()
        for predicate in predicates:
            for statement in predicate["statements"]:
                if statement["status"] in _HARMLESS:
                    vulnerability = statement["vulnerability"]
                    names.update((vulnerability["name"], *vulnerability.get("aliases", [])))
        return frozenset(names)
    except (KeyError, TypeError, AttributeError) as error:
        raise ScanError(f"{type(error).__name__}: {str(error)[:200]}") from None


def _severity(entry: Any) -> str:
    score = str(entry["score"]).lower()
    if score in _RANKS:
        return score
    try:
        number = float(score)
    except ValueError:
        return "unknown"  # a vector alone: computing its score takes a library
    return next((name for limit, name in _LIMITS if number >= limit), "none")
