"""Keeping the names of a file together when an overlay has copied it up under one of them.

With `index=on` the kernel knows that a changed file has other names below; opening each of them for writing makes
the kernel link it into the layer. Without this, a later look at the layer would show the old file under the other
names. Nothing is read or written unless the stage has changed a file with several names, which the index shows.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path


def keep_together(tree: Path, layer: Path, work: Path) -> int:
    """Link the remaining names of changed files into *layer*; *tree* is the overlay. Returns how many were linked."""
    index = work / "index"
    if not index.is_dir() or not any(index.iterdir()):
        return 0
    names: dict[int, list[str]] = {}
    for path, status in _files_with_several_names(str(tree)):
        names.setdefault(status.st_ino, []).append(os.path.relpath(path, tree))
    linked = 0
    for group in names.values():
        below = [name for name in group if not os.path.lexists(layer / name)]
        if len(below) < len(group):
            for name in below:
                os.close(os.open(tree / name, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK))
                linked += 1
    return linked


def _files_with_several_names(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files_with_several_names(entry.path)
            elif entry.is_file(follow_symlinks=False):
                status = os.lstat(entry.path)
                if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
                    yield entry.path, status
