"""kiln advisories: the local database of known vulnerabilities."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiln.cli.options import AsJson, ProgressOption

if TYPE_CHECKING:
    from kiln.vulnerabilities.database import DatabaseInfo
    from kiln.vulnerabilities.model import AdvisorySource

advisories = typer.Typer(no_args_is_help=True, help="Keep the database of known vulnerabilities.")


@advisories.command()
def update(as_json: AsJson = False, progress: ProgressOption = "auto") -> None:
    """Read every source of the settings anew; all or none."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _update, as_json, progress))


@advisories.command("import")
def import_(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Folder, checkout, .json or .zip file.", show_default=False)
    ],
    name: Annotated[
        str, typer.Option("--name", help="Name of the source, whose earlier advisories are replaced.")
    ] = "",
    as_json: AsJson = False,
    progress: ProgressOption = "auto",
) -> None:
    """Put the advisories of a folder or file into the database."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _import, path, name, as_json, progress))


@advisories.command()
def status(as_json: AsJson = False) -> None:
    """Say what the database holds, and whether it is as it was written."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _status, as_json))


def _update(as_json: bool, progress: Any) -> int:
    from kiln.cli.context import settings
    from kiln.control_plane.scanning import configured_sources

    return _read(configured_sources(settings()), as_json, progress)


def _import(path: Path, name: str, as_json: bool, progress: Any) -> int:
    from kiln.vulnerabilities.model import AdvisorySource

    source = AdvisorySource(name or path.absolute().name, folder=path.absolute())
    return _read((source,), as_json, progress)


def _read(sources: tuple[AdvisorySource, ...], as_json: bool, progress: Any) -> int:
    from kiln.cli.context import settings
    from kiln.cli.sinks import make_sink
    from kiln.control_plane.scanning import update_database
    from kiln.errors import ExitStatus

    _show(update_database(sources, settings(), make_sink(progress)), as_json, sound=True)
    return int(ExitStatus.OK)


def _status(as_json: bool) -> int:
    from kiln.cli.context import settings
    from kiln.errors import ExitStatus
    from kiln.vulnerabilities.database import Database

    with Database(settings().advisory_database) as database:
        info, sound = database.info(), database.check()
    _show(info, as_json, sound=sound)
    return int(ExitStatus.OK if sound else ExitStatus.REFUSED)


def _show(info: DatabaseInfo, as_json: bool, *, sound: bool) -> None:
    from kiln.cli.output import print_json, print_lines, table
    from kiln_wire.codec import encode

    if as_json:
        print_json({"kind": "kiln.advisories-status/v1", "sound": sound, **encode(info)})
        return
    rows = [[item.name, f"{item.advisories}", item.revision[:12], item.origin] for item in info.sources]
    print_lines(table([["source", "advisories", "revision", "origin"], *rows]))
    releases = [name for name in info.ecosystems if name != "CPE"]
    print_lines([f"ecosystems: {', '.join(releases) or 'none'}"])
    print_lines([f"newest advisory: {info.modified or 'no source has times'}", f"version: {info.version}"])
    if not sound:
        print_lines(["the database was changed after it was written: run `kiln advisories update`"])
