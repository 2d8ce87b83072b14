"""Settings for a command."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kiln.control_plane.settings import Settings, load_settings


def now() -> int:
    """Return the time in seconds since 1970."""
    return int(time.time())


def settings(remotes: Sequence[str] = ()) -> Settings:
    """Return the settings that hold in the working directory, with more remote hosts. Raises KilnError(SETTINGS)."""
    found = load_settings(Path.cwd(), os.environ)
    if not remotes:
        return found
    from kiln.engine.execution.remote.address import parse_remote

    return replace(found, remotes=(*found.remotes, *map(parse_remote, remotes)))
