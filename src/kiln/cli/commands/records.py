"""kiln records: what was built, when, by whom, with which verdict."""

from __future__ import annotations

from typing import Annotated

import typer

from kiln.cli.options import AsJson

records = typer.Typer(no_args_is_help=True, help="Look at the records of past runs.")


@records.command("list")
def list_(
    name: Annotated[str, typer.Option(help="Only records of this image.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List records, newest first."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _list, name, limit, as_json))


@records.command()
def show(record: Annotated[str, typer.Argument(metavar="RECORD", help="The first digits of its id.")]) -> None:
    """Show one record as JSON."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(True, _show, record))


@records.command()
def check() -> None:
    """Check that no record was changed, added or taken away behind Kiln's back."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _check))


def _list(name: str, limit: int, as_json: bool) -> int:
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines, table
    from kiln.errors import ExitStatus
    from kiln.records.store import Records
    from kiln_wire.codec import encode

    with Records(settings().state) as store:
        found = store.recent(limit, name=name)
    if as_json:
        print_json(encode(found))
    else:
        print_lines(table([[item.id[:12], item.run.finished, item.run.verdict, item.run.name] for item in found]))
    return int(ExitStatus.OK)


def _show(prefix: str) -> int:
    from kiln.cli.context import settings
    from kiln.cli.output import print_json
    from kiln.errors import ExitStatus
    from kiln.records.store import Records
    from kiln_wire.codec import encode

    with Records(settings().state) as store:
        print_json(encode(store.get(prefix)))
    return int(ExitStatus.OK)


def _check() -> int:
    from kiln.cli.context import settings
    from kiln.cli.output import print_lines
    from kiln.errors import ExitStatus
    from kiln.records.store import Records

    with Records(settings().state) as store:
        findings = store.verify_chain()
    print_lines([f"{item.component}: {item.reason}: expected {item.expected}, got {item.got}" for item in findings])
    if not findings:
        print_lines(["the chain of records is whole"])
    return int(ExitStatus.REFUSED if findings else ExitStatus.OK)
