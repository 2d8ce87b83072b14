"""Which packages the pipelines of an unlocked manifest ask for, from which archives, and whether they make a system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from kiln.authoring.catalog.model import Base, Mirror
from kiln.authoring.lock.model import LockedTree
from kiln.authoring.lock.packages import Universe
from kiln.authoring.lock.reasons import Root
from kiln.authoring.recipe.problems import closest
from kiln.authoring.unlocked.model import (
    APT_STAGES,
    BASE_STAGES,
    DISK_ASSEMBLER,
    GRUB_STAGE,
    Change,
    Finding,
    Json,
    Path,
    Unlocked,
)

DEFAULT_VARIANT: Final = "standard"
PRIORITIES: Final = {"minbase": ("required",), "buildd": ("required",), "standard": ("required", "important")}
"""Debian policy, section 2.5; debootstrap(8), --variant."""
INIT_PACKAGES: Final = frozenset(("systemd-sysv", "sysvinit-core", "runit-init", "finit-sysv"))
INIT_PACKAGE: Final = "systemd-sysv"
KERNEL_PREFIX: Final = "linux-image-"
MERGED: Final = "usr-is-merged"
"""Says that the tree is merged already; otherwise its converter with all of perl would come."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A package by name, and where it was written."""

    name: str
    path: Path
    stage: str


@dataclass(frozen=True, slots=True)
class PackageSet:
    """What one pipeline's tree shall hold."""

    pipeline: str
    base: Base
    base_stage: Path
    mirrors: tuple[Mirror, ...]
    urls: tuple[tuple[str, str], ...]
    """Logical name -> base URL, where the manifest gives one instead of a name."""
    variant: str
    asked: tuple[Asked, ...]
    excluded: tuple[str, ...]
    recommends: bool
    names_path: Path
    """The list to which a package can be added."""

    def roots(self, universe: Universe) -> list[Root]:
        """Return what the solver is asked for, and why."""
        given = [Root(name, "essential") for name in universe.essential_names()]
        reason = f"variant {self.variant}"
        names = [*universe.with_priority(*PRIORITIES[self.variant]), "apt", MERGED]
        if self.variant == "buildd":
            names.append("build-essential")
        given += [Root(name, reason) for name in names if name not in self.excluded and universe.has(name)]
        return given + [Root(item.name, item.stage) for item in self.asked]


def package_sets(unlocked: Unlocked, bases: Sequence[Base]) -> tuple[list[PackageSet], list[Finding]]:
    """Return what each pipeline asks for, and what is wrong with the suites."""
    sets: list[PackageSet] = []
    findings: list[Finding] = []
    for number, pipeline in enumerate(unlocked.document["pipelines"]):
        found = _package_set(pipeline, ("pipelines", number, "stages"), bases)
        if isinstance(found, PackageSet):
            sets.append(found)
        elif found is not None:
            findings.append(found)
    return sets, findings


def mirror_urls(unlocked: Unlocked, bases: Sequence[Base]) -> tuple[tuple[str, str], ...]:
    """Return logical name -> base URL for the archives that a manifest gives by URL."""
    return next((wanted.urls for wanted in package_sets(unlocked, bases)[0]), ())


def unknown_packages(wanted: PackageSet, universe: Universe) -> Iterator[Finding]:
    """Yield a finding for each name that no archive has, with the nearest one that exists."""
    for item in wanted.asked:
        if universe.has(item.name) or universe.providers(item.name):
            continue
        near = universe.suggestions(item.name)
        suites = ", ".join(f"{mirror.mirror} {mirror.suite}" for mirror in wanted.mirrors)
        yield Finding(
            "unknown-package",
            item.path,
            f"a package of {suites}" + (f"; the nearest name is `{near[0]}`" if near else ""),
            f"`{item.name}`, which none of them has",
            Change(item.path, near[0]) if near else None,
            f"also near: {', '.join(near[1:])}" if near[1:] else "",
        )


def missing_for_boot(unlocked: Unlocked, wanted: PackageSet, tree: LockedTree) -> list[Finding]:
    """Return what a tree lacks that shall start by itself: a kernel, and a program for process 1."""
    pipeline = next(item for item in unlocked.document["pipelines"] if item.get("name") == wanted.pipeline)
    if not (_is_last(unlocked, wanted.pipeline) and _boots(unlocked.document, pipeline)):
        return []
    names = [package.name for package in tree.packages]
    path, end = wanted.names_path, _length(unlocked.document, wanted.names_path)
    got = f"{len(names)} packages, none of which is one"
    findings = []
    if not any(name.startswith(KERNEL_PREFIX) for name in names):
        kernel = dict(wanted.base.kernels)[wanted.base.default_kernel]
        expected = f"a kernel, such as `{kernel}`: the image shall boot"
        findings.append(Finding("no-kernel", path, expected, got, Change((*path, end), kernel)))
        end += 1
    if not INIT_PACKAGES & set(names):
        expected = f"a package with /sbin/init, such as `{INIT_PACKAGE}`: without process 1 the kernel panics"
        findings.append(Finding("no-init", path, expected, got, Change((*path, end), INIT_PACKAGE)))
    return findings


def _package_set(pipeline: Json, path: Path, bases: Sequence[Base]) -> PackageSet | Finding | None:
    unlocked = [
        (index, stage)
        for index, stage in enumerate(pipeline.get("stages", []))
        if stage["type"] in (*BASE_STAGES, *APT_STAGES) and "inputs" not in stage
    ]
    if not unlocked:
        return None
    first, stage = unlocked[0]
    if first != 0 or stage["type"] not in BASE_STAGES:
        text = f"`{BASE_STAGES[0]}` as the first stage, which says of which suite the packages are"
        return Finding("no-base", (*path, first, "type"), text, f"`{stage['type']}`")
    base_path, options = (*path, 0, "options"), stage["options"]
    base = next((item for item in bases if item.codename == options["suite"]), None)
    if base is None:
        names = [item.codename for item in bases]
        near = closest(options["suite"], names)
        change = Change((*base_path, "suite"), near) if near else None
        return Finding(
            "unknown-suite", (*base_path, "suite"), f"one of {', '.join(names)}", f"`{options['suite']}`", change
        )
    mirrors, urls = _mirrors(base, options)
    asked = list(_asked(options.get("include", []), (*base_path, "include"), stage["type"]))
    excluded, recommends = list(options.get("exclude", [])), False
    names_path: Path = (*base_path, "include")
    for index, later in unlocked[1:]:
        if later["type"] not in APT_STAGES:
            return Finding("two-bases", (*path, index, "type"), "one base for a tree", f"a second `{later['type']}`")
        names_path = (*path, index, "options", "packages")
        asked += _asked(later["options"]["packages"], names_path, later["type"])
        excluded += later["options"].get("exclude", [])
        recommends = recommends or later["options"].get("recommends", False)
    return PackageSet(
        pipeline=pipeline.get("name", ""),
        base=base,
        base_stage=(*path, 0),
        mirrors=mirrors,
        urls=urls,
        variant=options.get("variant", DEFAULT_VARIANT),
        asked=tuple(asked),
        excluded=tuple(dict.fromkeys(excluded)),
        recommends=recommends,
        names_path=names_path,
    )


def _asked(names: Iterable[str], path: Path, stage: str) -> Iterator[Asked]:
    for index, name in enumerate(names):
        yield Asked(name, (*path, index), stage)


def _mirrors(base: Base, options: Json) -> tuple[tuple[Mirror, ...], tuple[tuple[str, str], ...]]:
    """Return the base's archives, the first of them (the suite itself) as the stage says."""
    first, *others = base.mirrors
    urls: tuple[tuple[str, str], ...] = ()
    mirror = options.get("mirror", first.mirror)
    if "://" in mirror:
        urls, mirror = ((first.mirror, mirror),), first.mirror
    components = tuple(options.get("components", first.components))
    renamed = [replace(item, mirror=mirror) if item.mirror == first.mirror else item for item in others]
    return (replace(first, mirror=mirror, components=components), *renamed), urls


def _is_last(unlocked: Unlocked, pipeline: str) -> bool:
    return bool(unlocked.document["pipelines"][-1].get("name") == pipeline)


def _boots(document: Json, pipeline: Json) -> bool:
    assembler = document.get("assembler") or {}
    disk = (assembler.get("type") or assembler.get("name")) == DISK_ASSEMBLER
    return disk and any(stage["type"] == GRUB_STAGE for stage in pipeline.get("stages", []))


def _length(document: Json, path: Path) -> int:
    value: object = document
    for part in path:
        if isinstance(value, list) and isinstance(part, int):
            value = value[part]
        elif isinstance(value, dict):
            value = value.get(part, [])
    return len(value) if isinstance(value, list) else 0
