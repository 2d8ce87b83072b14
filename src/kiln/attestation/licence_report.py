"""Which licences an image holds, and whether a policy allows them. Pure.

A policy lists patterns (as in fnmatch(3)) of SPDX identifiers. A licence that is denied is refused wherever it stands;
where there are allowed ones, all others are refused, and so is a package without a known licence. Of `A OR B` one
choice must be fine, of `A AND B` both; `A WITH E` is matched as a whole first, then as `A`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from kiln.artifact.licences import spdx_licensing
from kiln.artifact.stock import Inventory

UNKNOWN = "NOASSERTION"


@dataclass(frozen=True, slots=True)
class PackageLicence:
    """A package and what is known about its licence; `NOASSERTION` where nothing is."""

    name: str
    architecture: str
    version: str
    licence: str
    source: Literal["dep5", "text", "none"]


@dataclass(frozen=True, slots=True)
class LicenceReport:
    """All packages of an image, and how many have which identifier in their expression."""

    packages: tuple[PackageLicence, ...]
    identifiers: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class LicencePolicy:
    """Patterns of SPDX identifiers. No allowed ones: all that are not denied are."""

    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LicenceViolation:
    """A package that the policy refuses, and the identifiers that it is refused for."""

    name: str
    licence: str
    identifiers: tuple[str, ...]
    reason: Literal["denied", "not-allowed", "unknown"]


def licence_report(inventory: Inventory) -> LicenceReport:
    """Return the report on a tree."""
    packages = tuple(
        PackageLicence(item.name, item.architecture, item.version, item.licence or UNKNOWN, item.licence_source)
        for item in inventory.packages
    )
    counts = Counter(name for item in packages for name in _identifiers(item.licence))
    return LicenceReport(packages, tuple(sorted(counts.items())))


def violations(report: LicenceReport, policy: LicencePolicy) -> tuple[LicenceViolation, ...]:
    """Return the packages that *policy* refuses."""
    found = []
    for item in report.packages:
        if item.licence == UNKNOWN:
            if policy.allowed and not _matches(UNKNOWN, policy.allowed):
                found.append(LicenceViolation(item.name, UNKNOWN, (), "unknown"))
            continue
        refused = sorted(_refused(_parse(item.licence), policy))
        if refused:
            denied = any(_matches(name, policy.denied) for name in refused)
            reason: Literal["denied", "not-allowed"] = "denied" if denied else "not-allowed"
            found.append(LicenceViolation(item.name, item.licence, tuple(refused), reason))
    return tuple(found)


@functools.lru_cache(maxsize=4096)
def _parse(expression: str) -> Any:
    return spdx_licensing().parse(expression)


@functools.lru_cache(maxsize=4096)
def _identifiers(expression: str) -> Sequence[str]:
    return [UNKNOWN] if expression == UNKNOWN else sorted({str(symbol) for symbol in _symbols(_parse(expression))})


def _symbols(node: Any) -> list[Any]:
    return [node] if node.isliteral else [symbol for part in node.args for symbol in _symbols(part)]


def _refused(node: Any, policy: LicencePolicy) -> set[str]:
    """Return the identifiers because of which an expression is refused; none if it is allowed."""
    if node.isliteral:
        names = [str(node), *([str(node.license_symbol)] if hasattr(node, "license_symbol") else [])]
        if any(_matches(name, policy.denied) for name in names):
            return {names[0]}
        fine = not policy.allowed or any(_matches(name, policy.allowed) for name in names)
        return set() if fine else {names[0]}
    parts = [_refused(part, policy) for part in node.args]
    if type(node).__name__ == "OR":
        return set() if not all(parts) else set().union(*parts)
    return set().union(*parts)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
