"""Packages of a lock, as a stage and as sources of a plan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kiln.authoring.lock.model import LockedTree

Json = dict[str, Any]


def mirror_items(trees: Iterable[LockedTree]) -> Json:
    """Return the items of an org.kiln.mirror source that holds the packages of *trees*."""
    return {
        str(package.digest): {"mirror": package.mirror, "path": package.path, "size": package.size_bytes}
        for tree in trees
        for package in tree.packages
    }


def deb_stage(architecture: str, tree: LockedTree) -> Json:
    """Return the stage that installs the packages of *tree* into an empty tree."""
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
