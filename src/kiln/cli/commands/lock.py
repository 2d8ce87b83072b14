"""kiln lock: every package of an image by digest."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiln.cli.group import DefaultGroup
from kiln.cli.options import AsJson, ProgressOption, RequestArgument

if TYPE_CHECKING:
    from kiln.authoring.lock.diff import PackageChange
    from kiln.authoring.lock.model import Lock

lock = typer.Typer(
    cls=DefaultGroup,
    no_args_is_help=True,
    help="Lock every package of an image, and compare locks.",
    rich_markup_mode=None,
)
LockFile = Annotated[Path, typer.Argument(help="A kiln.lock.", show_default=False)]


@lock.command()
def make(
    request: RequestArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write.", show_default="standard output")
    ] = None,
    update: Annotated[
        list[str] | None,
        typer.Option("--update", help="Only this package (repeatable); all others stay as --output has them."),
    ] = None,
    progress: ProgressOption = "auto",
) -> None:
    """Resolve a request and lock every package of it, without building."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(True, _make, request, output, tuple(update or ()), progress))


@lock.command()
def diff(before: LockFile, after: LockFile, as_json: AsJson = False) -> None:
    """Say which packages differ between two locks. Ends with 1 if any does."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _diff, before, after, as_json))


def _make(request: str, output: Path | None, update: tuple[str, ...], progress: Any) -> int:
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
    earlier = _read(output) if update and output is not None else None
    resolution = resolve_all(understand(read_request(request), found, catalog), catalog)
    made = new_lock(resolution, found, make_sink(progress), datetime.now(UTC), earlier=earlier, update=update)
    data = lock_bytes(made)
    if output is None:
        sys.stdout.write(data.decode("utf-8"))
    else:
        write_atomic(output, data)
    return int(ExitStatus.OK)


def _diff(before: Path, after: Path, as_json: bool) -> int:
    from kiln.authoring.lock.diff import diff_locks
    from kiln.cli.output import print_json, print_lines, table
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    changes = diff_locks(_read(before), _read(after))
    if as_json:
        print_json({"kind": "kiln.lock-diff/v1", "changes": [encode(change) for change in changes]})
    else:
        print_lines(table([_row(change) for change in changes]) or ["no package differs"])
    return int(ExitStatus.FAILED if changes else ExitStatus.OK)


def _row(change: PackageChange) -> list[str]:
    versions = " -> ".join(version for version in (change.before, change.after) if version)
    return [change.tree, change.kind, change.name, versions, change.reason]


def _read(path: Path) -> Lock:
    from kiln.authoring.lock.document import MAX_LOCK_BYTES, read_lock
    from kiln.errors import Domain, ExitStatus, KilnError
    from kiln.linux.files import read_limited

    try:
        return read_lock(read_limited(path, MAX_LOCK_BYTES), str(path))
    except FileNotFoundError:
        raise KilnError(
            Domain.LOCK,
            "no-lock",
            f"there is no lock {path}",
            hint="`kiln lock make REQUEST --output FILE` makes one",
            exit_status=ExitStatus.NOT_FOUND,
        ) from None
