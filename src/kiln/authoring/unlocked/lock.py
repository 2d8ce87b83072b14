"""An unlocked manifest -> its locked form: check, ask the archives, check again, pin, lower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from kiln.authoring.catalog.model import Base, Mirror
from kiln.authoring.compose.inline import InlineFile
from kiln.authoring.lock.model import LockedTree
from kiln.authoring.lock.reasons import Root
from kiln.authoring.lock.solver import Solver
from kiln.authoring.lock.trees import Offer, lock_tree
from kiln.authoring.unlocked import checks
from kiln.authoring.unlocked.lower import Locked, lower
from kiln.authoring.unlocked.model import Change, Finding, Json, Unlocked, refuse
from kiln.authoring.unlocked.packages import PackageSet, missing_for_boot, package_sets, unknown_packages
from kiln.authoring.unlocked.tools import tool_packages
from kiln.errors import Domain, ExitStatus, KilnError

TOOLS_TREE: Final = "tools"


class Archives(Protocol):
    """Who reads archives."""

    def read(self, mirrors: tuple[Mirror, ...], urls: tuple[tuple[str, str], ...]) -> Offer:
        """Return what *mirrors* offer now; *urls* says where some of them are. Raises KilnError(LOCK, FETCH, HOST)."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a manifest, and the manifest with every proposed change made."""

    findings: tuple[Finding, ...]
    fixed: Unlocked
    sets: tuple[PackageSet, ...]
    offer: Offer
    trees: dict[str, LockedTree]


def diagnose(unlocked: Unlocked, bases: Sequence[Base], archives: Archives, solver: Solver) -> Diagnosis:
    """Look for every mistake, with the changes of the ones before it made.

    Raises KilnError(MANIFEST) if a mistake stands in the way of looking further, (LOCK) if packages exclude each other.
    """
    findings: list[Finding] = []

    def take(found: Sequence[Finding]) -> Unlocked:
        findings.extend(found)
        if any(finding.change is None for finding in found):
            raise refuse(unlocked, findings, fixing=any(finding.change is None for finding in findings))
        return unlocked.with_changes(_changes(findings))

    fixed = take(checks.check(unlocked))
    sets, found = package_sets(fixed, bases)
    if found:
        fixed = take(found)
        sets, _ = package_sets(fixed, bases)
    offer = _read(unlocked, sets, archives)
    fixed = take([finding for wanted in sets for finding in unknown_packages(wanted, offer.universe)])
    sets, _ = package_sets(fixed, bases)
    trees = {wanted.pipeline: _tree(offer, solver, wanted) for wanted in sets}
    lacking = [item for wanted in sets for item in missing_for_boot(fixed, wanted, trees[wanted.pipeline])]
    if lacking:
        fixed = take(lacking)
        sets, _ = package_sets(fixed, bases)
        trees = {wanted.pipeline: _tree(offer, solver, wanted) for wanted in sets}
    return Diagnosis(tuple(findings), fixed, tuple(sets), offer, trees)


def locked_form(
    diagnosis: Diagnosis, solver: Solver, origin: str, host_keys: Callable[[], tuple[InlineFile, ...]]
) -> Json:
    """Return the locked form of a diagnosed manifest with its changes made."""
    base = diagnosis.sets[0].base
    locked = Locked(
        base=base,
        architecture=base.architectures[0],
        epoch=diagnosis.offer.epoch,
        trees=diagnosis.trees,
        tools=_tools(diagnosis, solver),
        host_keys=host_keys(),
    )
    return lower(diagnosis.fixed.document, locked, origin)


def _read(unlocked: Unlocked, sets: Sequence[PackageSet], archives: Archives) -> Offer:
    first, *others = sets
    for other in others:
        if (other.mirrors, other.urls) != (first.mirrors, first.urls):
            raise KilnError(
                Domain.MANIFEST,
                "two-bases",
                f"the pipelines `{first.pipeline}` and `{other.pipeline}` are of different suites",
                place=unlocked.place(other.base_stage),
                hint="make a manifest for each of them",
                exit_status=ExitStatus.USAGE,
            )
    return archives.read(first.mirrors, first.urls)


def _tree(offer: Offer, solver: Solver, wanted: PackageSet) -> LockedTree:
    roots = wanted.roots(offer.universe)
    return lock_tree(offer, solver, wanted.pipeline, roots, excluded=wanted.excluded, recommends=wanted.recommends)


def _tools(diagnosis: Diagnosis, solver: Solver) -> LockedTree:
    base = diagnosis.sets[0].base
    names = [*base.build_root_packages, *_further_tools(diagnosis.fixed.document)]
    roots = [Root(name, "essential") for name in diagnosis.offer.universe.essential_names()]
    roots += [Root(name, f"build root {base.id}") for name in names]
    return lock_tree(diagnosis.offer, solver, TOOLS_TREE, roots)


def _further_tools(document: Json) -> list[str]:
    assembler = document.get("assembler") or {}
    types = [assembler.get("type") or assembler.get("name") or ""]
    types += [stage["type"] for pipeline in document["pipelines"] for stage in pipeline.get("stages", [])]
    return tool_packages(types)


def _changes(findings: Sequence[Finding]) -> list[Change]:
    return [finding.change for finding in findings if finding.change is not None]
