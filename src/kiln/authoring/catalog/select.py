"""Which features are in: those asked for, what they require, in an order that depends on nothing else.

Steps, in this order: every name is known and offered on the base; there is no cycle; the resolver chooses who serves
each name, and finds no conflict; the features are sorted, what is required before what requires it, else by `order`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kiln.authoring.catalog.choose import Clash, choose, offered
from kiln.authoring.catalog.entries import Catalog, Feature
from kiln.authoring.catalog.model import Base, Reason
from kiln.authoring.recipe.problems import did_you_mean
from kiln.authoring.recipe.values import shown
from kiln.errors import Domain, ExitStatus, KilnError


@dataclass(frozen=True, slots=True)
class Seed:
    """A feature that something asks for, and the chain that leads to the asking."""

    name: str
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selected:
    """A feature that is in, and why."""

    feature: Feature
    reason: Reason


def select(catalog: Catalog, base: Base, seeds: Iterable[Seed]) -> tuple[Selected, ...]:
    """Return the features that *seeds* lead to, sorted.

    Raises KilnError (CATALOG): `unknown-feature`, `unsupported-base`, `feature-cycle`, `feature-conflict`.
    """
    asked = tuple(seeds)
    greedy = _walk(catalog, base, asked, {})
    _refuse_cycles(greedy.features, greedy.edges)
    try:
        choice = choose(catalog, base, tuple(dict.fromkeys(seed.name for seed in asked)))
    except Clash as clash:
        raise _conflict(_nearest(clash, greedy.features), greedy.reasons()) from None
    walk = _walk(catalog, base, asked, choice.serves)
    _refuse_cycles(walk.features, walk.edges)
    reasons = walk.reasons()
    return tuple(
        Selected(walk.features[name], reasons[name]) for name in _sorted(walk.features, walk.edges)
    )


@dataclass(slots=True)
class _Walk:
    """The features that seeds lead to, with every chain that leads to each, and who requires whom."""

    features: dict[str, Feature]
    chains: dict[str, list[tuple[str, ...]]]
    edges: dict[str, list[str]]

    def reasons(self) -> dict[str, Reason]:
        return {
            name: Reason(found[0], tuple(" > ".join(other) for other in found[1:]))
            for name, found in self.chains.items()
        }


def _walk(
    catalog: Catalog, base: Base, seeds: Iterable[Seed], serves: Mapping[str, str]
) -> _Walk:
    """Follow requirements; *serves* says which feature serves a name, else the first that could does.

    Raises KilnError (CATALOG): `unknown-feature`, `unsupported-base`.
    """
    walk = _Walk({}, {}, {})
    waiting: list[Feature] = []

    def add(name: str, chain: tuple[str, ...]) -> Feature:
        providers = catalog.providers(name)
        if not providers:
            raise _unknown(catalog, Seed(name, chain))
        able = [feature for feature in providers if offered(feature, base)]
        if not able:
            raise _unsupported(providers[0], base, (*chain, f"feature {providers[0].id}"))
        # What is in already serves first, so that a requirement never brings a second thing of one kind.
        feature = min(able, key=lambda item: (item.id != serves.get(name), item.id not in walk.features))
        if feature.id not in walk.features:
            walk.features[feature.id] = feature
            waiting.append(feature)
        longer = (*chain, f"feature {feature.id}")
        if longer not in walk.chains.setdefault(feature.id, []):
            walk.chains[feature.id].append(longer)
        return feature

    for seed in seeds:
        add(seed.name, seed.chain)
    while waiting:
        feature = waiting.pop(0)
        for name in feature.requires:
            if name in (feature.id, *feature.provides):
                walk.edges.setdefault(feature.id, []).append(feature.id)
                continue
            provider = add(name, walk.chains[feature.id][0])
            walk.edges.setdefault(feature.id, []).append(provider.id)
    return walk


def _unknown(catalog: Catalog, seed: Seed) -> KilnError:
    names = {feature.id for feature in catalog.features}
    return _refusal(
        "unknown-feature",
        f"unknown feature {shown(seed.name)} (asked for by {' > '.join(seed.chain)})",
        hint=did_you_mean(seed.name, names) or f"known: {', '.join(sorted(names))}",
    )


def _unsupported(feature: Feature, base: Base, chain: tuple[str, ...]) -> KilnError:
    return _refusal(
        "unsupported-base",
        f"the feature `{feature.id}` is not offered on {base.title} ({' > '.join(chain)})",
        hint=f"it is offered on {', '.join(feature.bases)}",
    )


def _refuse_cycles(features: Mapping[str, Feature], edges: Mapping[str, list[str]]) -> None:
    done: set[str] = set()
    for start in sorted(features):
        # An own stack: the depth of requirements is data.
        path: list[str] = []
        stack = [(start, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                done.add(name)
            elif name in path:
                cycle = [*path[path.index(name) :], name]
                raise _refusal(
                    "feature-cycle",
                    f"features require each other in a circle: {' > '.join(cycle)}",
                    hint="one of them must not require the next; this is a mistake in the catalogue",
                )
            elif name not in done:
                path.append(name)
                stack.append((name, True))
                stack.extend((other, False) for other in reversed(edges.get(name, ())))


def _nearest(clash: Clash, features: Mapping[str, Feature]) -> Clash:
    """Return the clash to tell of: the resolver's may be the last of several ways that it tried, which nobody wrote."""
    if clash.first in features and clash.second in features:
        return clash
    for first in sorted(features):
        for second in sorted(features):
            shared = sorted({second, *features[second].provides} & set(features[first].conflicts))
            if first != second and shared:
                return Clash(min(first, second), max(first, second), shared[0])
    raise AssertionError(f"nothing that requirements lead to first excludes anything, but {clash}")


def _conflict(clash: Clash, reasons: Mapping[str, Reason]) -> KilnError:
    about = "" if clash.name in (clash.first, clash.second) else f" (both are `{clash.name}`)"
    return _refusal(
        "feature-conflict",
        f"the features `{clash.first}` and `{clash.second}` exclude each other{about}",
        detail=f"{reasons[clash.first]}\n{reasons[clash.second]}",
        hint=f"leave out `{clash.first}` or `{clash.second}`",
    )


def _sorted(features: Mapping[str, Feature], edges: Mapping[str, list[str]]) -> list[str]:
    result: list[str] = []
    left = set(features)
    while left:
        ready = [name for name in left if not (set(edges.get(name, ())) - {name}) & left]
        chosen = min(ready, key=lambda name: (features[name].order, name))
        result.append(chosen)
        left.remove(chosen)
    return result


def _refusal(reason: str, message: str, *, detail: str = "", hint: str = "") -> KilnError:
    return KilnError(Domain.CATALOG, reason, message, detail=detail, hint=hint, exit_status=ExitStatus.USAGE)
