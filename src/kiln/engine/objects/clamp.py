"""Making the times of a layer the same in every build."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from kiln.linux.removal import unprotected

NANOSECONDS: Final = 1_000_000_000


def clamp_times(layer: Path, epoch_seconds: int) -> int:
    """Set the times of everything in *layer* that is newer than *epoch_seconds* to it. Returns how many were set."""
    limit = epoch_seconds * NANOSECONDS
    return _clamp(str(layer), limit)


def _clamp(directory: str, limit: int) -> int:
    count = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                count += _clamp(entry.path, limit)
            elif entry.stat(follow_symlinks=False).st_mtime_ns > limit:
                _set(entry.path, limit)
                count += 1
    # After its entries, because nothing that happens in a directory may change it again.
    if os.lstat(directory).st_mtime_ns > limit:
        _set(directory, limit)
        count += 1
    return count


def _set(path: str, limit: int) -> None:
    try:
        os.utime(path, ns=(limit, limit), follow_symlinks=False)
    except PermissionError:  # an immutable file, such as the root of an OSTree deployment
        with unprotected(path):
            os.utime(path, ns=(limit, limit), follow_symlinks=False)
