"""Components against advisories: what is affected, merged so that each vulnerability of a component stands once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from kiln.vulnerabilities.database import Database
from kiln.vulnerabilities.model import RATINGS, Advisory, Affected, Component, Severity
from kiln.vulnerabilities.result import Coverage, Finding, NotCompared
from kiln.vulnerabilities.severity import rating_of, rating_word, worst
from kiln.vulnerabilities.versions import VersionError, family, fixes, is_affected

_CVE: Final = re.compile(r"CVE-[0-9]{4}-[0-9]{4,}")
_EXACT_RELEASE: Final = ("Debian", "Ubuntu", "AlmaLinux", "Rocky Linux", "Red Hat", "SUSE", "openSUSE", "Mageia")
"""Without a release's own advisories, such a component is not covered."""


@dataclass(frozen=True, slots=True)
class Matches:
    """What matching found, without VEX."""

    findings: tuple[Finding, ...]
    coverage: tuple[Coverage, ...]
    not_compared: tuple[NotCompared, ...]


@dataclass(slots=True)
class _Hit:
    """Everything that was found about one vulnerability of one component."""

    aliases: set[str] = field(default_factory=set)
    advisories: dict[str, Advisory] = field(default_factory=dict)
    fixed: list[tuple[str, ...]] = field(default_factory=list)
    urgencies: set[str] = field(default_factory=set)


def match(components: Sequence[Component], database: Database, known_ecosystems: Iterable[str]) -> Matches:
    """Match every component. Files that a distribution's package owns are not matched again as a language package."""
    known = frozenset(known_ecosystems)
    owned = {
        path
        for item in components
        if any(family(name) in _EXACT_RELEASE for name in item.ecosystems)
        for path in item.locations
    }
    enrichment = _Enrichment(database)
    findings: list[Finding] = []
    not_compared: list[NotCompared] = []
    counts: dict[str, list[int]] = {}
    for component in components:
        if _is_inside(component, owned):
            continue
        ecosystem = component.ecosystems[0] if component.ecosystems else component.purl.partition("/")[0]
        counts.setdefault(ecosystem, [0, 0])[0] += 1
        counts[ecosystem][1] += bool(component.ecosystems) and component.ecosystems[0] in known
        hits = _hits(component, database, enrichment, not_compared)
        findings += [_finding(name, component, hit, enrichment) for name, hit in sorted(hits.items())]
    findings.sort(key=lambda item: (-RATINGS.index(item.rating), -item.score_tenths, item.id, item.purl))
    coverage = tuple(Coverage(name, total, covered == total) for name, (total, covered) in sorted(counts.items()))
    return Matches(tuple(findings), coverage, tuple(sorted(not_compared, key=lambda item: (item.purl, item.advisory))))


def _is_inside(component: Component, owned: set[str]) -> bool:
    """Whether a language package is part of a distribution's package, whose advisories speak for it."""
    language = not any(family(name) in _EXACT_RELEASE for name in component.ecosystems)
    return language and bool(component.locations) and owned.issuperset(component.locations)


def _hits(
    component: Component, database: Database, enrichment: _Enrichment, not_compared: list[NotCompared]
) -> Mapping[str, _Hit]:
    hits: dict[str, _Hit] = {}
    for ecosystem in component.ecosystems:
        for identity, affected, packed in database.affecting(ecosystem, component.lookup):
            try:
                concerned = [item for item in affected if is_affected(item, component.lookup_version)]
            except VersionError as error:
                not_compared.append(NotCompared(component.purl, identity, str(error)))
                continue
            if concerned:
                advisory = database.advisory(packed)
                for name in enrichment.identities(advisory):
                    _add(hits.setdefault(name, _Hit()), name, advisory, concerned, component.lookup_version)
    return hits


def _add(hit: _Hit, name: str, advisory: Advisory, concerned: Sequence[Affected], version: str) -> None:
    hit.aliases.update({advisory.id, *_own_aliases(advisory, name)} - {name})
    hit.advisories[advisory.id] = advisory
    hit.fixed.extend(fixes(item, version) for item in concerned)
    hit.urgencies.update(item.urgency for item in concerned if item.urgency)


def _own_aliases(advisory: Advisory, name: str) -> set[str]:
    """Return the aliases that are the same thing as *name*: a notice about several CVEs says nothing of the others."""
    cves = {alias for alias in advisory.aliases if _CVE.fullmatch(alias)}
    return set(advisory.aliases) - (cves - {name} if len(cves) > 1 else set())


class _Enrichment:
    """What other advisories of the database say about a name; asked once for each."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[Advisory, ...]] = {}

    def named(self, name: str) -> tuple[Advisory, ...]:
        """Return the advisories of this name or alias."""
        if name not in self._known:
            self._known[name] = self._database.named(name)
        return self._known[name]

    def identities(self, advisory: Advisory) -> tuple[str, ...]:
        """Return the names under which an advisory's findings stand: each CVE that it names, else one name.

        An advisory without a CVE may be an alias of one that has some; else the first name in the alphabet among
        all that are connected is taken, so that every source leads to the same one.
        """
        names, pending = {advisory.id, *advisory.aliases}, [advisory.id, *advisory.aliases]
        cves = {name for name in names if _CVE.fullmatch(name)}
        while pending and not cves:
            for other in self.named(pending.pop()):
                fresh = {other.id, *other.aliases} - names
                names |= fresh
                pending += sorted(fresh)
            cves = {name for name in names if _CVE.fullmatch(name)}
        return tuple(sorted(cves)) or (min(names),)


def _finding(name: str, component: Component, hit: _Hit, enrichment: _Enrichment) -> Finding:
    advisories = {**{item.id: item for item in enrichment.named(name)}, **hit.advisories}
    severities: set[Severity] = set()
    for item in advisories.values():
        # A notice's vector is that of the worst of its CVEs, not of each.
        if item.id == name or sum(bool(_CVE.fullmatch(alias)) for alias in item.aliases) <= 1:
            severities.update(item.severities)
    rating, score, vector = worst(severities)
    urgency = min(hit.urgencies, default="")
    if score < 0:
        words = [item.rating for item in advisories.values() if item.rating != "unknown"]
        rating = max([*words, rating_word(urgency)], key=_weight)
    elif rating_word(urgency) == "none":
        rating = "none"  # the distribution has looked at it: no security problem as it is built there
    if score >= 0 and rating != "none":
        rating = rating_of(score)
    summaries = sorted((item.id != name, item.id, item.summary) for item in advisories.values() if item.summary)
    return Finding(
        id=name,
        aliases=tuple(sorted(hit.aliases)),
        advisories=tuple(sorted(hit.advisories)),
        purl=component.purl,
        name=component.name,
        version=component.version,
        source=f"{component.lookup} {component.lookup_version}",
        fixed=max(hit.fixed, key=lambda found: (len(found), found), default=()),
        rating=rating,
        score_tenths=score,
        vector=vector,
        urgency=urgency,
        summary=summaries[0][2] if summaries else "",
    )


def _weight(rating: str) -> int:
    return -1 if rating == "unknown" else RATINGS.index(rating)
