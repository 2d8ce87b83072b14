"""What names, versions and paths of packages may look like; whoever reads a lock needs no more than this."""

from __future__ import annotations

import re
from typing import Final

# Debian Policy 5.6.7 (at least two lower-case characters; third-party archives are less strict) and 5.6.12.
PACKAGE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]*")
VERSION: Final = re.compile(r"(?:[0-9]+:)?[A-Za-z0-9.+~-]+(?::[A-Za-z0-9.+~-]+)*")
ARCHITECTURE: Final = re.compile(r"[a-z0-9][a-z0-9-]*")
MAX_PATH_CHARACTERS: Final = 4096
"""PATH_MAX of Linux."""


def is_plain_path(path: str) -> bool:
    """Whether *path* is relative and stays below its root: no empty part, no `.` or `..`, no control character."""
    return (
        0 < len(path) <= MAX_PATH_CHARACTERS
        and path.isprintable()
        and "\\" not in path
        and all(part not in ("", ".", "..") for part in path.split("/"))
    )
