"""Finding the program that prepares a build root, where the engine does not do it itself."""

from __future__ import annotations

from pathlib import Path

from kiln.engine.execution.keys import OS_RELEASE
from kiln.engine.manifest.runners import choose, host_runner, is_native
from kiln.errors import Domain, KilnError


def runner_program(libdir: Path, wanted: str | None) -> Path | None:
    """Return the runner to start before a stage; None where none is needed. *wanted* None means the host's.

    Raises KilnError(ENGINE, "no-runner").
    """
    name = wanted or _host()
    if is_native(name):
        return None
    directory = libdir / "runners"
    available = [path.name for path in directory.iterdir()] if directory.is_dir() else []
    chosen = choose(name, available)
    if chosen is not None:
        return directory / chosen
    if wanted is None:
        return None  # an unknown host: most stages need no more than what the engine prepares
    raise KilnError(
        Domain.ENGINE,
        "no-runner",
        f"the libdir has no runner that fits `{wanted}`",
        detail=f"available: {', '.join(sorted(available)) or 'none'}",
        hint="`org.osbuild.linux` fits every build root that needs no preparation",
    )


def _host() -> str:
    for path in OS_RELEASE:
        try:
            return host_runner(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            continue
    return host_runner("")
