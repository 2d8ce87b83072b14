"""Resolution -> lock: read the indexes once, ask the solver for each tree, write down every input by digest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from kiln.authoring.catalog.document import resolution_digest
from kiln.authoring.catalog.model import Resolution
from kiln.authoring.lock.indexes import STEP, IndexFetcher, IndexReader, ReadIndex
from kiln.authoring.lock.keyrings import Keyrings
from kiln.authoring.lock.model import BUILD_TREE, IMAGE_TREE, Lock, LockedIndex, LockedPackage, LockedTree
from kiln.authoring.lock.openpgp import SecondOpinion, verify_with_gpgv
from kiln.authoring.lock.packages import PackageRecord, PackagesFile, Universe
from kiln.authoring.lock.reasons import Explanation, Root, UnmetRootError, explain
from kiln.authoring.lock.release import DEFAULT_FRESHNESS, Freshness, rfc3339
from kiln.authoring.lock.solver import AptSolver, Solver, SolveRequest
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Notice, Progress, Sink
from kiln.linux import process
from kiln_wire.digest import Digest


def make_lock(
    resolution: Resolution,
    *,
    architecture: str,
    fetcher: IndexFetcher,
    keyrings: Keyrings,
    cache: Path,
    sink: Sink,
    now: datetime,
    freshness: Freshness = DEFAULT_FRESHNESS,
    solver: Solver | None = None,
) -> Lock:
    """Return the lock of *resolution* for one architecture, from the indexes that its mirrors have at the time *now*.

    The trees are `build` (the tools that run the stages) and `image`. The same resolution and indexes give the same
    lock. Indexes, and apt's private rooms, are kept below *cache*.

    Raises KilnError(LOCK): what `verify_index`, `IndexReader.read` and `Solver.solve` say; (FETCH) for mirrors;
    (HOST): `missing-keyring`, `missing-tool`.
    """
    base = resolution.base
    if architecture not in base.architectures:
        raise KilnError(
            Domain.LOCK,
            "unknown-architecture",
            f"the base {base.id} has no architecture `{architecture}`",
            hint=f"choose one of: {', '.join(base.architectures)}",
            exit_status=ExitStatus.USAGE,
        )
    reader = IndexReader(
        fetcher, keyrings, cache, sink, now, freshness=freshness, second_opinion=gpgv_if_installed(sink)
    )
    indexes = reader.read(base.mirrors, architecture)
    universe = Universe(
        PackagesFile(file.data, mirror=index.signed.name.mirror, suite=index.signed.name.suite, path=file.path)
        for index in indexes
        for file in index.files
    )
    essential = universe.essential_names()
    solver = solver or AptSolver(cache / "apt", architecture)
    trees: list[LockedTree] = []
    count = 0
    for tree, roots, excluded in (
        (BUILD_TREE, build_roots(resolution, essential), ()),
        (IMAGE_TREE, image_roots(resolution, essential), resolution.excluded_packages),
    ):
        sink.emit(Progress(STEP, count, None, "packages", f"{tree} tree"))
        wanted = tuple(dict.fromkeys(root.package for root in roots))
        recommends = base.recommends and tree == IMAGE_TREE
        chosen = solver.solve(universe, indexes, SolveRequest(tree, wanted, excluded, recommends))
        trees.append(_tree(tree, chosen, roots))
        count += len(chosen)
    sink.emit(Progress(STEP, count, count, "packages"))
    return Lock(
        recipe_digest=Digest.parse(resolution.recipe_digest),
        resolution_digest=resolution_digest(resolution),
        base=base.id,
        architecture=architecture,
        epoch=max(int(index.signed.date.timestamp()) for index in indexes),
        indexes=tuple(map(_index, indexes)),
        trees=tuple(trees),
    )


def gpgv_if_installed(sink: Sink) -> SecondOpinion | None:
    """Return gpgv as a second verifier, or None with a notice where the host has none."""
    try:
        process.find_program("gpgv")
    except KilnError:
        sink.emit(Notice("info", "gpgv is not installed: index signatures are verified by one program instead of two"))
        return None
    return verify_with_gpgv


def build_roots(resolution: Resolution, essential: Iterable[str]) -> list[Root]:
    """Return what the build tree is asked to hold, and why."""
    roots = [Root(name, "essential") for name in essential]
    return roots + [Root(name, f"build root {resolution.base.id}") for name in resolution.base.build_root_packages]


def image_roots(resolution: Resolution, essential: Iterable[str]) -> list[Root]:
    """Return what the image tree is asked to hold, and why.

    Excluding a package that the base would bring drops it here; one that somebody asked for is a contradiction:
    raises KilnError(LOCK, "no-solution").
    """
    base = resolution.base
    excluded = frozenset(resolution.excluded_packages)
    asked = [Root(wish.name, wish.reason.chain[-1]) for wish in resolution.packages]
    if resolution.kernel_package:
        asked.append(Root(resolution.kernel_package, f"kernel {resolution.kernel_flavour}"))
    for root in asked:
        if root.package in excluded:
            raise KilnError(
                Domain.LOCK,
                "no-solution",
                f"`{root.package}` is excluded, but also asked for ({root.reason})",
                hint=f"do not exclude {root.package}, or drop what asks for it",
            )
    given = [Root(name, "essential") for name in essential]
    given += [Root(name, f"base {base.id}") for name in base.packages if name not in excluded]
    boot = [Root(name, f"boot {base.id}") for name in base.boot_packages if name not in excluded]
    return given + asked + boot


def _tree(name: str, chosen: Sequence[PackageRecord], roots: Sequence[Root]) -> LockedTree:
    """Put the solver's choice into a tree. Nothing is locked on one program's word: it is checked to be whole."""
    try:
        explanations = explain(chosen, roots)
    except UnmetRootError as error:
        raise _not_whole(name, f"{error} was asked for and is missing") from None
    for record in chosen:
        if unmet := explanations[record.name].unmet:
            wanted = ", ".join(" | ".join(one.name for one in clause) for clause in unmet)
            raise _not_whole(name, f"{record.name} {record.version} lacks {wanted}")
    packages = [_package(record, explanations[record.name]) for record in chosen]
    return LockedTree(name, tuple(sorted(packages, key=lambda package: (package.name, package.architecture))))


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


def _index(index: ReadIndex) -> LockedIndex:
    signed = index.signed
    return LockedIndex(
        mirror=signed.name.mirror,
        suite=signed.name.suite,
        components=index.components,
        digest=signed.digest,
        date=rfc3339(signed.date),
        valid_until=rfc3339(signed.valid_until) if signed.valid_until is not None else "",
        signed_by=signed.signed_by,
    )
