"""Where the project's own programs are: beside the package when it is installed, in the checkout when it is not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import kiln
from kiln.errors import Domain, ExitStatus, KilnError


def libdir(environment: Mapping[str, str]) -> Path:
    """Return the directory of stages, inputs and runners. Raises KilnError(HOST, "no-libdir")."""
    package = Path(kiln.__file__).parent
    candidates = [package / "_libdir", package.parent.parent / "libdir"]
    if "KILN_LIBDIR" in environment:
        candidates = [Path(environment["KILN_LIBDIR"])]
    for path in candidates:
        if (path / "stages").is_dir():
            return path
    raise KilnError(
        Domain.HOST,
        "no-libdir",
        f"no stages in {' or '.join(map(str, candidates))}",
        hint="install Kiln again, or set KILN_LIBDIR",
        exit_status=ExitStatus.INFRASTRUCTURE,
    )


def program_stamps(directory: Path) -> list[str]:
    """Return names, sizes and times of all files below *directory*: equal as long as nobody touched a program."""
    entries: list[str] = []
    for root, folders, names in os.walk(directory):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            path = Path(root, name)
            state = path.stat()
            entries.append(f"{path.relative_to(directory)} {state.st_size} {state.st_mtime_ns}")
    return entries
