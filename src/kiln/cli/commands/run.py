"""kiln run: boot an image on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiln.cli.options import ImageArgument


def run(
    image: ImageArgument,
    forward: Annotated[
        list[str] | None,
        typer.Option("--forward", "-p", metavar="HOST:GUEST", help="Forward a loopback port to the guest. Repeatable."),
    ] = None,
    firmware: Annotated[str, typer.Option(help="bios or uefi.")] = "bios",
    memory: Annotated[int, typer.Option(help="MiB of memory.", min=256)] = 2048,
    login: Annotated[bool, typer.Option(help="Add a throw-away user for this run and say how to log in.")] = True,
) -> None:
    """Boot an image with its serial console here; what the guest writes is thrown away. Ctrl-A X ends it."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _run, image, forward or [], firmware, memory, login))


def _run(image: Path, forward: list[str], firmware: str, memory: int, login: bool) -> int:
    raise NotImplementedError
