"""Settings for a command."""

from __future__ import annotations

import os
import time
from pathlib import Path

from kiln.control_plane.settings import Settings, load_settings


def settings() -> Settings:
    """Return the settings that hold in the working directory. Raises KilnError(SETTINGS)."""
    return load_settings(Path.cwd(), os.environ)


def now() -> int:
    """Return the time in seconds since 1970."""
    return int(time.time())
