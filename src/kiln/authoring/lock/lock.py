"""Resolution -> lock: read the indexes once, ask the solver for each tree, write down every input by digest."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Final

from kiln.authoring.catalog.document import resolution_digest
from kiln.authoring.catalog.model import Resolution
from kiln.authoring.lock.indexes import STEP, IndexFetcher, ReadIndex
from kiln.authoring.lock.keyrings import Keyrings
from kiln.authoring.lock.model import BUILD_TREE, IMAGE_TREE, Lock, LockedIndex, LockedTree
from kiln.authoring.lock.reasons import Root
from kiln.authoring.lock.release import DEFAULT_FRESHNESS, Freshness, rfc3339
from kiln.authoring.lock.solver import AptSolver, Solver
from kiln.authoring.lock.trees import lock_tree, read_offer
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Progress, Sink
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
    earlier: Lock | None = None,
    update: tuple[str, ...] = (),
) -> Lock:
    """Return the lock of *resolution* for one architecture, from the indexes that its mirrors have at the time *now*.

    The trees are `build` (the tools that run the stages) and `image`. The same resolution and indexes give the same
    lock. Indexes, and apt's private rooms, are kept below *cache*. With an *earlier* lock, packages keep their versions
    but for those that *update* names, as long as the mirrors have these versions and dependencies allow them.

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
    offer = read_offer(
        base.mirrors,
        architecture,
        fetcher=fetcher,
        keyrings=keyrings,
        cache=cache,
        sink=sink,
        now=now,
        freshness=freshness,
    )
    essential = offer.universe.essential_names()
    solver = solver or AptSolver(cache / "apt", architecture)
    trees: list[LockedTree] = []
    count = 0
    for tree, roots, excluded in (
        (BUILD_TREE, build_roots(resolution, essential), ()),
        (IMAGE_TREE, image_roots(resolution, essential), resolution.excluded_packages),
    ):
        sink.emit(Progress(STEP, count, None, "packages", f"{tree} tree"))
        recommends = base.recommends and tree == IMAGE_TREE
        trees.append(
            lock_tree(
                offer, solver, tree, roots, excluded=excluded, recommends=recommends, pins=_pins(earlier, tree, update)
            )
        )
        count += len(trees[-1].packages)
    sink.emit(Progress(STEP, count, count, "packages"))
    return Lock(
        recipe_digest=Digest.parse(resolution.recipe_digest),
        resolution_digest=resolution_digest(resolution),
        base=base.id,
        architecture=architecture,
        epoch=offer.epoch,
        indexes=tuple(map(_index, offer.indexes)),
        trees=tuple(trees),
    )


OUTPUT_TOOLS: Final = {
    "erofs": ("erofs-utils",),
    "iso": ("xorriso",),
    "ostree": ("ostree",),
    "uki": ("systemd-boot-efi",),
}
"""What a build root needs for an output, beside what every build root has."""
LOADER_TOOLS: Final = {"systemd-boot": ("systemd-boot-efi",), "uki": ("systemd-boot-efi",)}


def build_roots(resolution: Resolution, essential: Iterable[str]) -> list[Root]:
    """Return what the build tree is asked to hold, and why."""
    base = resolution.base
    roots = [Root(name, "essential") for name in essential]
    roots += [Root(name, f"build root {base.id}") for name in base.build_root_packages]
    loader = LOADER_TOOLS.get(resolution.boot, ())
    roots += [Root(name, f"boot {resolution.boot}") for name in loader]
    return roots + [
        Root(name, f"output {output}") for output in resolution.outputs for name in OUTPUT_TOOLS.get(output, ())
    ]


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


def _pins(earlier: Lock | None, tree: str, update: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the names and versions of what shall stay as it was."""
    if earlier is None:
        return ()
    packages = next((found.packages for found in earlier.trees if found.name == tree), ())
    return tuple((package.name, package.version) for package in packages if package.name not in update)


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
