"""Where measurements run, and in which environment."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).parents[1]
MEMORY: Final = Path("/dev/shm")  # noqa: S108 - it is a directory of its own in there
NEEDED_BYTES: Final = 8 << 30
"""Two stores with a tree of 1 GB each, their clones, and the images of the whole build."""


def environment() -> dict[str, str]:
    """Return the environment for commands: without compiled modules, starts of Python would be measured."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield a directory in memory, if there is enough of it: a disk's own time is nobody's merit."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > NEEDED_BYTES
    place = MEMORY if roomy else None
    with tempfile.TemporaryDirectory(prefix="kiln-bench-", dir=place, ignore_cleanup_errors=True) as directory:
        yield Path(directory)
