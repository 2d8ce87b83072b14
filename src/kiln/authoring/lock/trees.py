"""What archives offer at one moment, and the packages of one tree chosen from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kiln.authoring.catalog.model import Mirror
from kiln.authoring.lock.indexes import IndexFetcher, IndexReader, ReadIndex
from kiln.authoring.lock.keyrings import Keyrings
from kiln.authoring.lock.model import LockedPackage, LockedTree
from kiln.authoring.lock.openpgp import SecondOpinion, verify_with_gpgv
from kiln.authoring.lock.packages import PackageRecord, PackagesFile, Universe
from kiln.authoring.lock.reasons import Explanation, Root, UnmetRootError, explain
from kiln.authoring.lock.release import DEFAULT_FRESHNESS, Freshness
from kiln.authoring.lock.solver import Solver, SolveRequest
from kiln.errors import Domain, KilnError
from kiln.events.model import Notice, Sink
from kiln.linux import process


@dataclass(frozen=True, slots=True)
class Offer:
    """Verified indexes, and everything that is in them."""

    indexes: tuple[ReadIndex, ...]
    universe: Universe

    @property
    def epoch(self) -> int:
        """SOURCE_DATE_EPOCH of what is made from it: seconds since 1970 of the newest index's `Date`."""
        return max(int(index.signed.date.timestamp()) for index in self.indexes)


def read_offer(
    mirrors: Sequence[Mirror],
    architecture: str,
    *,
    fetcher: IndexFetcher,
    keyrings: Keyrings,
    cache: Path,
    sink: Sink,
    now: datetime,
    freshness: Freshness = DEFAULT_FRESHNESS,
) -> Offer:
    """Read the indexes of *mirrors* at the time *now*. Raises KilnError as `IndexReader.read` does."""
    reader = IndexReader(
        fetcher, keyrings, cache, sink, now, freshness=freshness, second_opinion=gpgv_if_installed(sink)
    )
    indexes = reader.read(mirrors, architecture)
    universe = Universe(
        PackagesFile(file.data, mirror=index.signed.name.mirror, suite=index.signed.name.suite, path=file.path)
        for index in indexes
        for file in index.files
    )
    return Offer(indexes, universe)


def lock_tree(
    offer: Offer,
    solver: Solver,
    name: str,
    roots: Sequence[Root],
    *,
    excluded: tuple[str, ...] = (),
    recommends: bool = False,
    pins: tuple[tuple[str, str], ...] = (),
) -> LockedTree:
    """Return the packages that hold *roots*. No program is taken at its word: the choice is checked to be whole.

    Raises KilnError(LOCK): `unknown-package`, `no-solution`.
    """
    wanted = tuple(dict.fromkeys(root.package for root in roots))
    chosen = solver.solve(offer.universe, offer.indexes, SolveRequest(name, wanted, excluded, recommends, pins))
    try:
        explanations = explain(chosen, roots)
    except UnmetRootError as error:
        raise _not_whole(name, f"{error} was asked for and is missing") from None
    for record in chosen:
        if unmet := explanations[record.name].unmet:
            lacking = ", ".join(" | ".join(one.name for one in clause) for clause in unmet)
            raise _not_whole(name, f"{record.name} {record.version} lacks {lacking}")
    packages = [_package(record, explanations[record.name]) for record in chosen]
    return LockedTree(name, tuple(sorted(packages, key=lambda package: (package.name, package.architecture))))


def gpgv_if_installed(sink: Sink) -> SecondOpinion | None:
    """Return gpgv as a second verifier, or None with a notice where the host has none."""
    try:
        process.find_program("gpgv")
    except KilnError:
        sink.emit(Notice("info", "gpgv is not installed: index signatures are verified by one program instead of two"))
        return None
    return verify_with_gpgv


def _not_whole(tree: str, problem: str) -> KilnError:
    return KilnError(
        Domain.LOCK,
        "no-solution",
        f"the solver's {tree} tree is not whole: {problem}",
        hint="report this with the recipe: the solver and Kiln read the dependencies differently",
    )


def _package(record: PackageRecord, explanation: Explanation) -> LockedPackage:
    return LockedPackage(
        name=record.name,
        version=record.version,
        architecture=record.architecture,
        mirror=record.mirror,
        suite=record.suite,
        path=record.path,
        size_bytes=record.size_bytes,
        digest=record.digest,
        source=record.source,
        source_version=record.source_version,
        installed_size_bytes=record.installed_size_bytes,
        essential=record.essential,
        depends=explanation.depends,
        reason=explanation.reason,
    )
