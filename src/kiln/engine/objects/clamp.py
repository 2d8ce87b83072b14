"""Making the times of a layer the same in every build."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

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
                os.utime(entry.path, ns=(limit, limit), follow_symlinks=False)
                count += 1
    # After its entries, because nothing that happens in a directory may change it again.
    if os.lstat(directory).st_mtime_ns > limit:
        os.utime(directory, ns=(limit, limit))
        count += 1
    return count
