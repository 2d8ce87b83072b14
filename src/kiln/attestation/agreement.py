"""The lock says what should be in the image, the inventory what is: an SBOM is written only where both agree. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from kiln.artifact.stock import Inventory
from kiln.authoring.lock.model import LockedTree
from kiln.errors import Domain, KilnError
from kiln_wire import layout

MAX_SHOWN: Final = 50


def require_agreement(tree: LockedTree, inventory: Inventory, resolution: Mapping[str, Any]) -> None:
    """Refuse what lock and tree say differently.

    Every locked package is installed in its version, and no other one; every file that a package brought is there as
    it came, but for configuration files and for what the resolution itself writes or removes.
    Raises KilnError(ATTESTATION, "sbom-disagrees") that names the package or the file; the detail lists the others.
    """
    problems = [*_packages(tree, inventory), *_files(inventory, resolution)]
    if problems:
        shown = problems[:MAX_SHOWN]
        raise KilnError(
            Domain.ATTESTATION,
            "sbom-disagrees",
            f"{layout.LOCK} and the built tree disagree: {problems[0]}",
            detail="\n".join(shown + [f"and {len(problems) - MAX_SHOWN} more"] * (len(problems) > MAX_SHOWN)),
            hint="something but the locked packages and the resolution wrote to the tree; no SBOM is made of that",
        )


def _packages(tree: LockedTree, inventory: Inventory) -> Iterator[str]:
    locked = {f"{item.name}:{item.architecture}": item.version for item in tree.packages}
    installed = {f"{item.name}:{item.architecture}": item.version for item in inventory.packages}
    for key in sorted(locked.keys() | installed.keys()):
        if key not in installed:
            yield f"package {key} {locked[key]} is locked, but not installed"
        elif key not in locked:
            yield f"package {key} {installed[key]} is installed, but not locked"
        elif locked[key] != installed[key]:
            yield f"package {key} is locked as {locked[key]}, but installed as {installed[key]}"


def _files(inventory: Inventory, resolution: Mapping[str, Any]) -> Iterator[str]:
    written = {_merged(item["path"]) for item in resolution.get("files", ())}
    removed = tuple(_merged(item["path"]) for item in resolution.get("removals", ()))
    for item in inventory.alterations:
        path = _merged(item.path)
        if path in written or any(path == gone or path.startswith(gone + "/") for gone in removed):
            continue
        yield f"file {item.path} of {item.package} is {item.problem}"


def _merged(path: str) -> str:
    """Return a path as it is on a system whose /bin, /sbin and /lib are links into /usr."""
    path = path.rstrip("/")
    return "/usr" + path if path.startswith(("/bin/", "/sbin/", "/lib/", "/lib64/", "/lib32/")) else path
