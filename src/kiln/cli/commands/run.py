"""kiln run: boot an image on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kiln.cli.options import ImageArgument


def run(
    image: ImageArgument,
    forward: Annotated[
        list[int] | None,
        typer.Option("--forward", "-p", metavar="PORT", help="Make a port of the machine answer here. Repeatable."),
    ] = None,
    persist: Annotated[
        Path | None, typer.Option("--persist", help="Keep what the machine writes in this file, and use it again.")
    ] = None,
    firmware: Annotated[str, typer.Option(help="bios or uefi.")] = "bios",
    memory: Annotated[int | None, typer.Option(help="MiB of memory.", min=256, show_default="by the host")] = None,
    login: Annotated[
        bool | None,
        typer.Option(
            help="Add an account for this run, and say how to log in.", show_default="unless --persist is given"
        ),
    ] = None,
) -> None:
    """Boot an image with its serial console here; the image is never written. Ctrl-A X ends it."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _run, image, forward or [], persist, firmware, memory, login))


def _run(
    image: Path, forward: list[int], persist: Path | None, firmware: str, memory: int | None, login: bool | None
) -> int:
    from kiln.cli.context import settings
    from kiln.cli.sinks import make_sink
    from kiln.control_plane.images import disk_of
    from kiln.control_plane.road.model import firmware_named
    from kiln.trial.interactive import DEFAULT_FORWARDS, run_interactively
    from kiln.trial.machine import Forward

    try:
        return run_interactively(
            disk_of(image),
            firmware=firmware_named(firmware),
            state_dir=settings().state,
            sink=make_sink("plain"),
            forwards=[*DEFAULT_FORWARDS, *(Forward(port) for port in forward if port != 22)],
            persist=persist,
            # A kept overlay must not go on holding an account whose password was shown on a screen.
            login=persist is None if login is None else login,
            display=True,
            memory_mib=memory,
        )
    finally:
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[?7h")  # SeaBIOS switches the terminal's line wrap off
