"""Facts about an image, and the differences between two. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Section = Literal[
    "recipe",
    "features",
    "packages",
    "files",
    "setuid",
    "users",
    "groups",
    "ports",
    "services",
    "sysctls",
    "licences",
    "vulnerabilities",
    "sizes",
]
Severity = Literal["critical", "high", "medium", "low", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low", "info")
"""From the worst to the mildest."""

Value = Mapping[str, object]
"""What is known about one thing: short texts, numbers and truth values."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One side of a comparison. A section that its source does not carry is not in *sections*."""

    name: str
    form: Literal["image", "lock", "sbom"]
    sections: Mapping[Section, Mapping[str, Value]]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. *reason* is a stable word that a gate can name."""

    severity: Severity
    reason: str
    section: Section
    subject: str
    before: str
    after: str
    """Empty where there is nothing on that side."""


@dataclass(frozen=True, slots=True)
class Difference:
    """All differences, worst first, and the sections that could not be compared with the side that lacks each."""

    before: str
    after: str
    changes: tuple[Change, ...]
    not_compared: tuple[tuple[Section, str], ...]
