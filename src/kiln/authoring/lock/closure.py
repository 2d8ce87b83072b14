"""What an image will hold, estimated without a solver: each clause by its first alternative that exists.

Good for figures before a build; a lock asks apt, which looks at conflicts and versions, too.
"""

from __future__ import annotations

from collections.abc import Iterable

from kiln.authoring.lock.packages import PackageRecord, Universe
from kiln.authoring.lock.relations import Alternative
from kiln.authoring.lock.versions import version_key


def closure(universe: Universe, names: Iterable[str], excluded: frozenset[str]) -> tuple[PackageRecord, ...]:
    """Return the packages that *names* lead to, by name; a name that no index has is left out."""
    chosen: dict[str, PackageRecord] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in chosen or name in excluded:
            continue
        records = universe.records(name)
        if not records:
            waiting.extend(universe.providers(name)[:1] if not set(universe.providers(name)) & chosen.keys() else ())
            continue
        record = max(records, key=lambda item: version_key(item.version))
        chosen[name] = record
        for clause in record.depends:
            found = _satisfying(universe, clause, chosen)
            if found:
                waiting.append(found)
    return tuple(chosen[name] for name in sorted(chosen))


def _satisfying(universe: Universe, clause: tuple[Alternative, ...], chosen: dict[str, PackageRecord]) -> str:
    if any(item.name in chosen or set(universe.providers(item.name)) & chosen.keys() for item in clause):
        return ""
    for item in clause:
        if universe.has(item.name):
            return item.name
        if providers := universe.providers(item.name):
            return providers[0]
    return ""
