"""kiln feature: the catalogue."""

from __future__ import annotations

from typing import Annotated

import typer

from kiln.cli.options import AsJson

feature = typer.Typer(no_args_is_help=True, help="Look at the catalogue of features.")


@feature.command("list")
def list_(as_json: AsJson = False) -> None:
    """List every feature."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _list, as_json))


@feature.command()
def show(name: Annotated[str, typer.Argument(metavar="FEATURE")]) -> None:
    """Show one feature as JSON: what it adds, its options, its checks."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _show, name))


def _list(as_json: bool) -> int:
    from kiln.authoring.catalog.data import load_catalog
    from kiln.cli.output import print_json, print_lines, table
    from kiln.errors import ExitStatus

    features = load_catalog().features
    if as_json:
        print_json([{"id": item.id, "version": item.version, "title": item.title} for item in features])
    else:
        print_lines(table([[item.id, item.version, item.title] for item in features]))
    return int(ExitStatus.OK)


def _show(name: str) -> int:
    from kiln.authoring.catalog.data import load_catalog
    from kiln.cli.output import print_json
    from kiln.errors import Domain, ExitStatus, KilnError
    from kiln_wire.codec import encode

    found = load_catalog().feature(name)
    if found is None:
        raise KilnError(
            Domain.CATALOG,
            "unknown-feature",
            f"there is no feature `{name}`",
            hint="`kiln feature list` shows all",
            exit_status=ExitStatus.NOT_FOUND,
        )
    print_json(encode(found))
    return int(ExitStatus.OK)
