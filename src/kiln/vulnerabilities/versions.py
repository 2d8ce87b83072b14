"""The order of versions, by the rules of each ecosystem.

Debian's order is the solver's own; Python's is `packaging`'s; the others are `univers`'. A version that its ecosystem
cannot read has no order: the caller is told, and never that it is not affected.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

from kiln.authoring.lock.versions import version_key
from kiln.vulnerabilities.model import Affected, Event

_UNIVERS: Final = {
    "npm": "SemverVersion",
    "crates.io": "SemverVersion",
    "Hex": "SemverVersion",
    "Pub": "SemverVersion",
    "SwiftURL": "SemverVersion",
    "Go": "GolangVersion",
    "Maven": "MavenVersion",
    "NuGet": "NugetVersion",
    "RubyGems": "RubygemsVersion",
    "Packagist": "ComposerVersion",
    "ConanCenter": "ConanVersion",
    "Alpine": "AlpineLinuxVersion",
    "AlmaLinux": "RpmVersion",
    "Rocky Linux": "RpmVersion",
    "Red Hat": "RpmVersion",
    "SUSE": "RpmVersion",
    "openSUSE": "RpmVersion",
    "openEuler": "RpmVersion",
    "Mageia": "RpmVersion",
    "Photon OS": "RpmVersion",
    "Azure Linux": "RpmVersion",
    "Fedora": "RpmVersion",
}
_DPKG: Final = ("Debian", "Ubuntu", "CPE")
"""Ordered by dpkg's algorithm, which also has an answer for the free versions of CPE names."""


class VersionError(ValueError):
    """The ecosystem has no order for this version."""


def family(ecosystem: str) -> str:
    """Return an ecosystem without its release: `Debian` of `Debian:12`."""
    return ecosystem.partition(":")[0]


def is_known(ecosystem: str) -> bool:
    """Whether versions of this ecosystem can be compared."""
    return family(ecosystem) in (*_DPKG, "PyPI", *_UNIVERS)


@functools.lru_cache(maxsize=262144)
def order_key(ecosystem: str, version: str) -> Any:
    """Return a key by which versions of an ecosystem (without release) sort. Raises VersionError."""
    if ecosystem in _DPKG:
        return version_key(version)
    if ecosystem == "PyPI":
        from packaging.version import InvalidVersion, Version  # noqa: PLC0415 - where such packages are

        try:
            return Version(version)
        except InvalidVersion as error:
            raise VersionError(str(error)) from None
    return _univers_key(ecosystem, version)


def _univers_key(ecosystem: str, version: str) -> Any:
    from univers import versions as univers  # noqa: PLC0415 - takes longer to import than a scan of Debian

    name = _UNIVERS.get(ecosystem)
    if name is None:
        raise VersionError(f"no order is known for {ecosystem}")
    try:
        return getattr(univers, name)(version)
    except (univers.InvalidVersion, ValueError, TypeError, AttributeError) as error:
        raise VersionError(f"{version!r} is no version of {ecosystem}: {error}") from None


def is_affected(affected: Affected, version: str) -> bool:
    """Whether *version* is one that the advisory is about (OSV schema, "Evaluation"). Raises VersionError."""
    if version in affected.versions:
        return True
    ecosystem = family(affected.ecosystem)
    return any(_in_range(ecosystem, events, version) for events in affected.ranges)


def _in_range(ecosystem: str, events: Sequence[Event], version: str) -> bool:
    """Take the events in the order of their versions; the last one that applies decides."""
    key = order_key(ecosystem, version)
    limits = [event.version for event in events if event.kind == "limit" and event.version != "*"]
    if limits and not any(key < order_key(ecosystem, limit) for limit in limits):
        return False
    vulnerable = False
    for event in sorted_events(ecosystem, tuple(events)):
        if event.version == "0":
            reached, same = True, False
        else:
            other = order_key(ecosystem, event.version)
            reached, same = bool(key >= other), bool(key == other)
        if event.kind == "introduced" and reached:
            vulnerable = True
        elif (event.kind == "fixed" and reached) or (event.kind == "last_affected" and reached and not same):
            vulnerable = False
    return vulnerable


@functools.lru_cache(maxsize=65536)
def sorted_events(ecosystem: str, events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Return the events but limits, oldest version first; `introduced: 0` is before all. Raises VersionError."""
    dated = [event for event in events if event.kind != "limit"]
    first = [event for event in dated if event.version == "0"]
    rest = sorted(
        (event for event in dated if event.version != "0"), key=lambda event: order_key(ecosystem, event.version)
    )
    return (*first, *rest)


def fixes(affected: Affected, version: str) -> tuple[str, ...]:
    """Return the versions newer than *version* in which it is fixed, oldest first."""
    ecosystem = family(affected.ecosystem)
    found = {event.version for events in affected.ranges for event in events if event.kind == "fixed"}
    try:
        key = order_key(ecosystem, version)
        newer = [item for item in found if order_key(ecosystem, item) > key]
        return tuple(sorted(newer, key=lambda item: order_key(ecosystem, item)))
    except VersionError:
        return tuple(sorted(found))
