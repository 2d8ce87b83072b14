"""Which runner prepares a build root: a name with a version at its end; the best one is not newer than asked for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

NATIVE_PREFIXES: Final = ("org.osbuild.debian", "org.osbuild.ubuntu", "org.kiln.")
"""Runners whose work the engine does itself, once for each build root, without starting the program."""
MINIMAL: Final = "org.osbuild.linux"
_NAME: Final = re.compile(r"(?P<family>.*?)(?P<version>[0-9]*)", re.DOTALL)


def is_native(name: str) -> bool:
    """Whether the engine prepares build roots for this runner itself."""
    return name == MINIMAL or name.startswith(NATIVE_PREFIXES)


def choose(wanted: str, available: Iterable[str]) -> str | None:
    """Return the runner of the same family with the highest version that is at most the wanted one, or None."""
    family, version = _split(wanted)
    fitting = [
        (found_version, name)
        for name in available
        for found_family, found_version in [_split(name)]
        if found_family == family and found_version <= version
    ]
    return max(fitting)[1] if fitting else None


def host_runner(os_release: str) -> str:
    """Return the name of the runner for a host with this os-release(5) text, such as `org.osbuild.debian12`."""
    values = {}
    for line in os_release.splitlines():
        key, separator, value = line.partition("=")
        if separator:
            values[key.strip()] = value.strip().strip("\"'")
    return f"org.osbuild.{values.get('ID', 'linux')}{values.get('VERSION_ID', '').replace('.', '')}"


def _split(name: str) -> tuple[str, int]:
    match = _NAME.fullmatch(name)
    assert match is not None  # noqa: S101 - both parts may be empty
    return match["family"], int(match["version"] or "0")
