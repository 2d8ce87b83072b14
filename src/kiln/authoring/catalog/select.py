"""Which features are in: those asked for, what they require, in an order that depends on nothing else.

Steps, in this order: every seed is known and offered on the base; requirements are followed; there is no cycle; there
is no conflict; the features are sorted, what is required before what requires it, else by `order` and id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

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
    chains: dict[str, list[tuple[str, ...]]] = {}
    features: dict[str, Feature] = {}
    waiting: list[Feature] = []

    def add(feature: Feature, chain: tuple[str, ...]) -> None:
        _check_base(feature, base, chain)
        if feature.id not in features:
            features[feature.id] = feature
            waiting.append(feature)
        if chain not in chains.setdefault(feature.id, []):
            chains[feature.id].append(chain)

    for seed in seeds:
        found = _provider(catalog, features, seed.name)
        if found is None:
            raise _unknown(catalog, seed)
        add(found, (*seed.chain, f"feature {found.id}"))
    edges: dict[str, list[str]] = {}
    while waiting:
        feature = waiting.pop(0)
        for name in feature.requires:
            chain = chains[feature.id][0]
            provider = _provider(catalog, features, name)
            if provider is None:
                raise _unknown(catalog, Seed(name, chain))
            edges.setdefault(feature.id, []).append(provider.id)
            if provider.id != feature.id:
                add(provider, (*chain, f"feature {provider.id}"))
    _refuse_cycles(features, edges)
    reasons = {
        name: Reason(found[0], tuple(" > ".join(other) for other in found[1:])) for name, found in chains.items()
    }
    _refuse_conflicts(features, reasons)
    return tuple(Selected(features[name], reasons[name]) for name in _sorted(features, edges))


def _provider(catalog: Catalog, chosen: Mapping[str, Feature], name: str) -> Feature | None:
    # What is in already serves first, so that a requirement never brings a second thing of one kind.
    providers = catalog.providers(name)
    return next((feature for feature in providers if feature.id in chosen), providers[0] if providers else None)


def _unknown(catalog: Catalog, seed: Seed) -> KilnError:
    names = {feature.id for feature in catalog.features}
    return _refusal(
        "unknown-feature",
        f"unknown feature {shown(seed.name)} (asked for by {' > '.join(seed.chain)})",
        hint=did_you_mean(seed.name, names) or f"known: {', '.join(sorted(names))}",
    )


def _check_base(feature: Feature, base: Base, chain: tuple[str, ...]) -> None:
    if feature.bases and not {base.id, base.distribution} & set(feature.bases):
        raise _refusal(
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


def _refuse_conflicts(features: Mapping[str, Feature], reasons: Mapping[str, Reason]) -> None:
    for first in sorted(features):
        for second in sorted(features):
            offered = {second, *features[second].provides}
            shared = sorted(offered & set(features[first].conflicts))
            if first == second or not shared:
                continue
            about = "" if shared[0] == second else f" (both are `{shared[0]}`)"
            raise _refusal(
                "feature-conflict",
                f"the features `{first}` and `{second}` exclude each other{about}",
                detail=f"{reasons[first]}\n{reasons[second]}",
                hint=f"leave out `{first}` or `{second}`",
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
