"""Which features hold together: what is asked for, what that requires, and nothing that excludes another, by resolvelib.

Three kinds of things are decided. A *feature* is in. A *name* that features provide (`web-server`) is served by one of
them, first by one that is asked for anyway. A *slot* says how many may provide a name: nobody (`free`: somebody
excludes all of them), any number (`open`), or one alone, by its id. Two features that exclude each other want different
states of one slot, and the resolver tells which two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from resolvelib import BaseReporter, ResolutionImpossible, Resolver
from resolvelib.providers import AbstractProvider

from kiln.authoring.catalog.entries import Catalog, Feature
from kiln.authoring.catalog.model import Base

Kind = Literal["feature", "name", "slot"]
FREE: Final = "free"
OPEN: Final = "open"
MAX_ROUNDS: Final = 10_000  # a catalogue of 80 features is decided in some 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """That *key* be decided, as *state* where it is a slot."""

    kind: Kind
    key: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Decided:
    """That *key* is decided: a feature is in, a name is served by the feature *state*, a slot has the *state*."""

    kind: Kind
    key: str
    state: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What holds together: which feature serves each name that features or seeds require."""

    serves: Mapping[str, str]


class Clash(Exception):  # noqa: N818 - an answer of the resolver, turned into a refusal where chains are known
    """Two features exclude each other over a name that one of them provides."""

    def __init__(self, first: str, second: str, name: str) -> None:
        super().__init__(f"{first} and {second} exclude each other over {name}")
        self.first = first
        self.second = second
        self.name = name


def choose(catalog: Catalog, base: Base, names: Sequence[str]) -> Choice:
    """Return the choice that *names*, which must all be known, lead to. Raises Clash."""
    resolver: Resolver[Wanted, Decided, tuple[Kind, str]] = Resolver(_Provider(catalog, base, names), BaseReporter())
    try:
        result = resolver.resolve([_wanted(catalog, name) for name in names], max_rounds=MAX_ROUNDS)
    except ResolutionImpossible as error:
        raise _clash(error.causes) from None
    found = result.mapping.values()
    return Choice({item.key: item.state for item in found if item.kind in ("feature", "name")})


def offered(feature: Feature, base: Base) -> bool:
    """Whether *feature* is offered on *base*."""
    return not feature.bases or bool({base.id, base.distribution} & set(feature.bases))


def _wanted(catalog: Catalog, name: str) -> Wanted:
    return Wanted("feature" if catalog.feature(name) is not None else "name", name)


class _Provider(AbstractProvider[Wanted, Decided, "tuple[Kind, str]"]):
    def __init__(self, catalog: Catalog, base: Base, asked: Iterable[str]) -> None:
        self.catalog = catalog
        self.base = base
        self.asked = frozenset(asked)
        self.excluded = {name for feature in catalog.features for name in feature.conflicts}

    def identify(self, requirement_or_candidate: Wanted | Decided) -> tuple[Kind, str]:
        return requirement_or_candidate.kind, requirement_or_candidate.key

    def get_preference(self, identifier: tuple[Kind, str], *_: Any, **__: Any) -> tuple[int, str]:
        # Names last: by then it is known which features are in anyway.
        return ("slot", "feature", "name").index(identifier[0]), identifier[1]

    def find_matches(
        self, identifier: tuple[Kind, str], requirements: Mapping[Any, Iterator[Wanted]],
        incompatibilities: Mapping[Any, Iterator[Decided]],
    ) -> list[Decided]:  # fmt: skip
        kind, key = identifier
        refused = set(incompatibilities[identifier])
        states = {wanted.state for wanted in requirements[identifier]}
        if kind == "feature":
            found = [key]
        elif kind == "slot":
            found = sorted(states) if len(states) == 1 else []
        else:
            providers = [feature for feature in self.catalog.providers(key) if offered(feature, self.base)]
            found = [feature.id for feature in sorted(providers, key=lambda feature: feature.id not in self.asked)]
        return [item for item in (Decided(kind, key, state) for state in found) if item not in refused]

    def is_satisfied_by(self, requirement: Wanted, candidate: Decided) -> bool:
        return requirement.kind != "slot" or requirement.state == candidate.state

    def get_dependencies(self, candidate: Decided) -> list[Wanted]:
        if candidate.kind == "slot":
            return []
        if candidate.kind == "name":
            return [Wanted("feature", candidate.state)]
        feature = self.catalog.feature(candidate.key)
        if feature is None:
            raise AssertionError(candidate.key)
        provided = {feature.id, *feature.provides}
        slots = [
            Wanted("slot", name, feature.id if name in feature.conflicts else OPEN)
            for name in sorted(provided & self.excluded)
        ]
        slots += [Wanted("slot", name, FREE) for name in sorted(set(feature.conflicts) - provided)]
        return [*slots, *(_wanted(self.catalog, name) for name in feature.requires if name not in provided)]


def _clash(causes: Iterable[Any]) -> Clash:
    by_slot: dict[str, dict[str, str]] = {}
    for cause in causes:
        if cause.requirement.kind == "slot" and cause.parent is not None:
            by_slot.setdefault(cause.requirement.key, {})[cause.parent.key] = cause.requirement.state
    for name, wishes in sorted(by_slot.items()):
        holders = sorted(wishes)
        for first in holders:
            for second in holders:
                if first < second and wishes[first] != wishes[second]:
                    return Clash(first, second, name)
    raise AssertionError(f"the resolver gave no two features that exclude each other: {causes}")
