"""Advisories as the database holds them, whatever format they came in.

Reference: OSV schema 1.7. Times are RFC 3339 in UTC; scores are tenths (98 is 9.8), because canonical JSON has no
fractions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Rating = Literal["none", "low", "medium", "high", "critical", "unknown"]
RATINGS: Final[tuple[Rating, ...]] = ("none", "low", "medium", "unknown", "high", "critical")
"""From the mildest to the worst; what nobody has rated stands between medium and high."""


@dataclass(frozen=True, slots=True)
class Event:
    """A version at which something changes (OSV `events`)."""

    kind: Literal["introduced", "fixed", "last_affected", "limit"]
    version: str


@dataclass(frozen=True, slots=True)
class Affected:
    """A package that an advisory is about: in which versions. No ranges and no versions: in none."""

    ecosystem: str
    """As OSV writes it: `Debian:12`, `PyPI`, `npm`."""
    package: str
    """In the spelling by which components are looked up; of Debian, the source package."""
    ranges: tuple[tuple[Event, ...], ...] = ()
    versions: tuple[str, ...] = ()
    urgency: str = ""
    """What the distribution says, such as `unimportant`."""


@dataclass(frozen=True, slots=True)
class Severity:
    """A CVSS vector with the version of its scheme, such as `CVSS_V3`."""

    type: str
    vector: str


@dataclass(frozen=True, slots=True)
class Advisory:
    """One advisory of one source."""

    id: str
    modified: str
    aliases: tuple[str, ...] = ()
    """Other names of the same thing, and what it is a fix for (`aliases`, `upstream`), sorted."""
    withdrawn: str = ""
    published: str = ""
    summary: str = ""
    severities: tuple[Severity, ...] = ()
    rating: Rating = "unknown"
    """Where the source has a word and no vector."""
    affected: tuple[Affected, ...] = ()


@dataclass(frozen=True, slots=True)
class Component:
    """Something that can be vulnerable."""

    purl: str
    name: str
    version: str
    ecosystems: tuple[str, ...]
    """In which advisories about it may be found; none: no source of ours can know it."""
    lookup: str
    """Its name there: the source package of a Debian binary."""
    lookup_version: str
    locations: tuple[str, ...] = ()
    """Files, where its SBOM says so."""


@dataclass(frozen=True, slots=True)
class AdvisorySource:
    """A source of the settings: a *folder* (or file) of this machine, or *path* on the mirror named *mirror*."""

    name: str
    folder: Path | None = None
    mirror: str = ""
    path: str = ""

    @property
    def origin(self) -> str:
        """What the database says about where its advisories came from: never a host."""
        return f"{self.mirror}: {self.path}" if self.mirror else str(self.folder)
