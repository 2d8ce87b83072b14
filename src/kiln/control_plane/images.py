"""Image directories."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kiln.artifact.stock import Inventory, read_inventory
from kiln.errors import Domain, ExitStatus, KilnError
from kiln_wire import layout

DISK_SUFFIXES: Final = (".qcow2",)


def disk_of(path: Path) -> Path:
    """Return the disk image that *path* is, or that the image directory *path* holds.

    Raises KilnError(ARTIFACT, "no-image").
    """
    if path.is_file():
        return path
    found = sorted(file for suffix in DISK_SUFFIXES for file in path.glob(f"*{suffix}"))
    if len(found) == 1:
        return found[0]
    problem = f"there is no {path}" if not path.is_dir() else f"{path} holds {len(found) or 'no'} disk images"
    raise KilnError(
        Domain.ARTIFACT,
        "no-image",
        problem,
        hint="give an image directory that `kiln build` has made, or a disk image",
        exit_status=ExitStatus.NOT_FOUND,
    )


def inventory_of(path: Path) -> Inventory:
    """Return the inventory of an image directory, or of the one that the file *path* lies in.

    Raises KilnError(ARTIFACT) `no-inventory` or `bad-inventory`.
    """
    file = (path if path.is_dir() else path.parent) / layout.INVENTORY
    try:
        return read_inventory(file.read_bytes(), str(file))
    except OSError as error:
        raise KilnError(
            Domain.ARTIFACT,
            "no-inventory",
            f"{file} can't be read: {error.strerror}",
            hint="give an image directory that `kiln build` has made; an older one is completed by building again",
            exit_status=ExitStatus.NOT_FOUND,
        ) from error
