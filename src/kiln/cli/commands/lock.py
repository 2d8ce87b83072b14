"""kiln lock: every package of an image by digest."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from kiln.cli.options import ProgressOption, RequestArgument


def lock(
    request: RequestArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write.", show_default="standard output")
    ] = None,
    progress: ProgressOption = "auto",
) -> None:
    """Resolve a request and lock every package of it, without building."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(True, _lock, request, output, progress))


def _lock(request: str, output: Path | None, progress: Any) -> int:
    from kiln.authoring.catalog.data import load_catalog
    from kiln.authoring.lock.document import lock_bytes
    from kiln.cli.context import settings
    from kiln.cli.request import read_request
    from kiln.cli.sinks import make_sink
    from kiln.control_plane.road.author import new_lock, resolve_all, understand
    from kiln.errors import ExitStatus
    from kiln.linux.files import write_atomic

    found = settings()
    catalog = load_catalog()
    resolution = resolve_all(understand(read_request(request), found, catalog), catalog)
    data = lock_bytes(new_lock(resolution, found, make_sink(progress), datetime.now(UTC)))
    if output is None:
        sys.stdout.write(data.decode("utf-8"))
    else:
        write_atomic(output, data)
    return int(ExitStatus.OK)
