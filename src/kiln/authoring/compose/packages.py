"""Packages of a lock, as a stage and as sources of a plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from kiln.authoring.lock.model import LockedTree

Json = dict[str, Any]

STABLE_REASONS: Final = ("essential", "base")
"""What the reasons of packages begin with that every image of a base has."""


def mirror_items(trees: Iterable[LockedTree]) -> Json:
    """Return the items of an org.kiln.mirror source that holds the packages of *trees*."""
    return {
        str(package.digest): {"mirror": package.mirror, "path": package.path, "size": package.size_bytes}
        for tree in trees
        for package in tree.packages
    }


def layers(tree: LockedTree) -> list[LockedTree]:
    """Return a tree's packages in the order in which they are installed: what every image of the base has, the others.

    The first stays the same when a request changes, so that its stored tree is used again. A layer holds everything
    that its packages depend on.
    """
    by_name = {package.name: package for package in tree.packages}
    pending = [package.name for package in tree.packages if package.reason.partition(" ")[0] in STABLE_REASONS]
    below: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in below:
            below.add(name)
            pending += [other for other in by_name[name].depends if other in by_name]
    lower = tuple(package for package in tree.packages if package.name in below)
    upper = tuple(package for package in tree.packages if package.name not in below)
    return [LockedTree(tree.name, packages) for packages in (lower, upper) if packages]


def deb_stages(architecture: str, tree: LockedTree) -> list[Json]:
    """Return the stages that install *tree*, one for each of its layers."""
    return [deb_stage(architecture, layer) for layer in layers(tree)]


def deb_stage(architecture: str, tree: LockedTree) -> Json:
    """Return the stage that installs the packages of *tree* into an empty tree, or beside those that are there."""
    return {
        "type": "org.kiln.deb",
        "inputs": {
            "packages": {
                "type": "org.osbuild.files",
                "origin": "org.osbuild.source",
                "references": [str(package.digest) for package in tree.packages],
            }
        },
        "options": {"architecture": architecture},
    }
