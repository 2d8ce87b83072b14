"""Why each package is in a tree: the shortest chain of dependencies from something that was asked for.

A chain is written outermost first, as `feature docker > docker.io > containerd`. Where several are equally short,
the root that stands earlier wins, then the one whose packages come first by name; a chain through Recommends is
taken only where no chain of dependencies exists. The same packages give the same text in any order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kiln.authoring.lock.packages import PackageRecord
from kiln.authoring.lock.relations import Alternative, Clause

UNEXPLAINED: Final = "solver"
"""For a package that nothing in the tree depends on: the solver's own choice."""

Chain = tuple[str, ...]
"""The root's reason, then package names up to the package itself."""


class UnmetRootError(ValueError):
    """A package that was asked for is not in the tree."""


@dataclass(frozen=True, slots=True)
class Root:
    """A package that was asked for by name, and why: `essential`, `base debian-12`, `feature docker`."""

    package: str
    reason: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a package depends on inside its tree, why it is there, and what it lacks (nothing, in a sound tree)."""

    depends: tuple[str, ...]
    reason: str
    unmet: tuple[Clause, ...]


def explain(packages: Sequence[PackageRecord], roots: Sequence[Root]) -> dict[str, Explanation]:
    """Return an explanation for each package by name; a tree has one package of a name.

    Raises UnmetRootError for a root that is neither in the tree nor provided by a package in it.

    `depends` holds for each clause the names that satisfy its first satisfiable alternative: the package itself,
    or else every package that provides it.
    """
    tree = _Tree(packages)
    depends = {name: tree.satisfiers(record.depends) for name, record in tree.by_name.items()}
    recommends = {name: tree.satisfiers(record.recommends) for name, record in tree.by_name.items()}
    for root in roots:
        if not tree.named(root.package):
            raise UnmetRootError(root.package)
    chains: dict[str, Chain] = {}
    # A virtual package that was asked for stands in the chain, so that its provider makes sense.
    _spread(
        [
            (name, (root.reason, name) if name == root.package else (root.reason, root.package, name))
            for root in roots
            for name in tree.named(root.package)
        ],
        depends,
        chains,
    )
    # What only Recommends leads to comes second, and may bring further dependencies.
    while suggested := _recommended(chains, recommends):
        _spread(suggested, depends, chains)
    return {
        name: Explanation(
            depends=tuple(sorted(depends[name])),
            reason=_text(chains.get(name, (UNEXPLAINED, name))),
            unmet=tuple(clause for clause in record.depends if not tree.satisfying(clause)),
        )
        for name, record in tree.by_name.items()
    }


class _Tree:
    """Looks up who satisfies what among the chosen packages."""

    def __init__(self, packages: Iterable[PackageRecord]) -> None:
        self.by_name: Mapping[str, PackageRecord] = {record.name: record for record in packages}
        self._providers: dict[str, list[tuple[str, str]]] = {}
        for record in self.by_name.values():
            for clause in record.provides:
                for virtual in clause:
                    self._providers.setdefault(virtual.name, []).append((record.name, virtual.version))

    def named(self, name: str) -> list[str]:
        """Return the package of that name, or else those that provide it, sorted."""
        if name in self.by_name:
            return [name]
        return sorted(provider for provider, _version in self._providers.get(name, ()))

    def satisfiers(self, clauses: Iterable[Clause]) -> set[str]:
        return {name for clause in clauses for name in self.satisfying(clause)}

    def satisfying(self, clause: Clause) -> set[str]:
        for alternative in clause:
            if found := self._matches(alternative):
                return found
        return set()

    def _matches(self, alternative: Alternative) -> set[str]:
        record = self.by_name.get(alternative.name)
        if record is not None and alternative.accepts(record.version):
            return {record.name}
        return {
            provider
            for provider, version in self._providers.get(alternative.name, ())
            # Policy 7.5: a provision without a version satisfies only a dependency without one.
            if not alternative.relation or (version and alternative.accepts(version))
        }


def _spread(starts: Iterable[tuple[str, Chain]], edges: Mapping[str, set[str]], chains: dict[str, Chain]) -> None:
    """Walk breadth first from *starts*, giving a chain to each package that has none."""
    level: list[str] = []
    for name, chain in starts:
        if name not in chains:
            chains[name] = chain
            level.append(name)
    while level:
        following: list[str] = []
        for name in level:
            for target in sorted(edges[name]):
                if target not in chains:
                    chains[target] = (*chains[name], target)
                    following.append(target)
        level = following


def _recommended(chains: Mapping[str, Chain], recommends: Mapping[str, set[str]]) -> list[tuple[str, Chain]]:
    found: dict[str, Chain] = {}
    for name, chain in chains.items():
        for target in sorted(recommends[name]):
            if target not in chains and target not in found:
                found[target] = (*chain, f"{target} (recommended)")
    return list(found.items())


def _text(chain: Chain) -> str:
    """Return the chain; of a package that was itself asked for, only who asked."""
    return chain[0] if len(chain) == 2 else " > ".join(chain)
