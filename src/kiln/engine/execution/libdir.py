"""Where the programs of stages are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import kiln

UPSTREAM: Final = Path("/usr/lib/osbuild")


def default_libdir() -> Path:
    """Return Kiln's own libdir: installed beside the package, or in a checkout; else osbuild's."""
    package = Path(kiln.__file__).parent
    for path in (package / "_libdir", package.parents[1] / "libdir"):
        if path.is_dir():
            return path
    return UPSTREAM


def runtime_directory(libdir: Path) -> Path:
    """Return the directory that holds the Python package `osbuild` for the programs of *libdir*.

    A libdir whose own `osbuild` is empty or missing (osbuild's packaged layout) gets Kiln's.
    """
    own = libdir / "osbuild"
    try:
        if any(own.iterdir()):
            return libdir
    except OSError:
        pass
    return default_libdir()
