"""How much objects take on the disk; measured once, beside the object, and never by whoever commits it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from kiln.engine.objects.layout import Layout

SIZE: Final = "size"
BLOCK_BYTES: Final = 512
"""The unit of st_blocks."""


def known_size(layout: Layout, key: str) -> int | None:
    """Return the bytes that an object takes on the disk, or None if nobody has measured it."""
    try:
        return int((layout.object(key) / SIZE).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def object_size(layout: Layout, key: str) -> int:
    """Return the bytes that an object takes on the disk; 0 if it has gone."""
    known = known_size(layout, key)
    if known is not None:
        return known
    size = disk_usage(layout.object(key))
    with suppress(OSError):
        (layout.object(key) / SIZE).write_text(str(size), encoding="ascii")
    return size


def disk_usage(path: Path) -> int:
    """Return the bytes that *path* and everything below it take on the disk; a file with several names counts once.

    What goes away meanwhile does not count.
    """
    seen: set[int] = set()
    try:
        total = os.lstat(path).st_blocks * BLOCK_BYTES
    except OSError:
        return 0
    todo = [str(path)] if path.is_dir() and not path.is_symlink() else []
    while todo:
        with suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    elif status.st_nlink > 1:
                        if status.st_ino in seen:
                            continue
                        seen.add(status.st_ino)
                    total += status.st_blocks * BLOCK_BYTES
    return total
