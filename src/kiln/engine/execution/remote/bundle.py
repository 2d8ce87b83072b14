"""A libdir and the runtime of its programs as one layer: the same files are the same digest, wherever they lie."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Final

LIBDIR: Final = "libdir"
RUNTIME: Final = "runtime"
LEFT_OUT: Final = frozenset({"__pycache__", ".git"})
DIRECTORY_MODE: Final = 0o755
PROGRAM_MODE: Final = 0o755
FILE_MODE: Final = 0o644


def make_bundle(libdir: Path, runtime: Path, destination: Path) -> None:
    """Copy a libdir, and the package `osbuild` of *runtime* if that is elsewhere, into the new directory *destination*.

    Owners, times, and modes but for the right to execute are left behind. Raises OSError.
    """
    destination.mkdir()
    _copy(libdir, destination / LIBDIR)
    if runtime != libdir:
        (destination / RUNTIME).mkdir()
        _copy(runtime / "osbuild", destination / RUNTIME / "osbuild")
    for directory, folders, names in os.walk(destination, topdown=False):
        for name in (*folders, *names):
            _level(Path(directory, name))
    _level(destination)


def bundled_libdir(bundle: Path) -> Path:
    """Return the libdir of a bundle."""
    return bundle / LIBDIR


def bundled_runtime(bundle: Path) -> Path:
    """Return the directory that holds the package `osbuild` of a bundle."""
    runtime = bundle / RUNTIME
    return runtime if runtime.is_dir() else bundle / LIBDIR


def _copy(source: Path, destination: Path) -> None:
    def left_out(_directory: str, names: list[str]) -> set[str]:
        return set(LEFT_OUT.intersection(names))

    shutil.copytree(source, destination, symlinks=True, ignore=left_out, copy_function=shutil.copy)


def _level(path: Path) -> None:
    status = path.lstat()
    os.chown(path, 0, 0, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        path.chmod(DIRECTORY_MODE)
    elif stat.S_ISREG(status.st_mode):
        path.chmod(PROGRAM_MODE if status.st_mode & 0o111 else FILE_MODE)
    os.utime(path, ns=(0, 0), follow_symlinks=False)
