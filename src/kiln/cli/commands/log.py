"""kiln log: the transparency log of all records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kiln.cli.options import AsJson

log = typer.Typer(no_args_is_help=True, help="The append-only log of all records: prove, check, watch, witness.")


@log.command()
def status(as_json: AsJson = False) -> None:
    """Take every record into the log, and print its checkpoint and its verifier key."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _status, as_json))


@log.command()
def prove(
    record: Annotated[str, typer.Argument(metavar="RECORD", help="The first digits of its id.", show_default=False)],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write.", show_default=False)] = None,
) -> None:
    """Print the proof that the log holds a record."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _prove, record, output))


@log.command()
def check() -> None:
    """Compute the whole tree again from the records, and compare it with the log."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _check))


@log.command()
def monitor(
    source: Annotated[str, typer.Argument(metavar="LOG", help="URL or directory of a log.", show_default=False)],
    key: Annotated[str, typer.Option(help="Verifier key of the log.", show_default=False)],
    memory: Annotated[Path, typer.Option(help="File that keeps the last checkpoint.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Look at a log: exit status 4 if it has forked or gone back since the last look."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _monitor, source, key, memory, as_json))


@log.command()
def submit() -> None:
    """Ask the witnesses of the settings to sign the log's checkpoint."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _submit))


@log.command()
def witness(
    name: Annotated[str, typer.Option(help="Name of this witness.", show_default=False)],
    key: Annotated[list[str], typer.Option(help="Verifier key of a log to sign for. Repeatable.", show_default=False)],
    listen: Annotated[str, typer.Option(help="Address and port.")] = "127.0.0.1:0",
) -> None:
    """Be a witness of other machines' logs, over HTTP."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _witness, name, key, listen))


def _status(as_json: bool) -> int:
    import os

    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines
    from kiln.control_plane.trust import record_log
    from kiln.errors import ExitStatus
    from kiln.records.store import Records

    found = settings()
    own = record_log(found, os.environ)
    with Records(found.state) as records:
        checkpoint = own.catch_up(records)
    if as_json:
        document = {"origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.hex()}
        print_json({"kind": "kiln.log/v1", **document, "key": own.key.vkey, "directory": str(own.directory)})
    else:
        print_lines([*checkpoint.text.splitlines(), "", own.key.vkey])
    return int(ExitStatus.OK)


def _prove(record: str, output: Path | None) -> int:
    import os
    import sys

    from kiln.cli.context import settings
    from kiln.control_plane.trust import record_log
    from kiln.errors import ExitStatus
    from kiln.linux.files import write_atomic
    from kiln.records.store import Records

    found = settings()
    own = record_log(found, os.environ)
    with Records(found.state) as records:
        wanted = records.get(record)
        own.catch_up(records)
    data = own.prove(wanted.sequence - 1).data
    if output is None:
        sys.stdout.write(data.decode("utf-8"))
    else:
        write_atomic(output, data)
    return int(ExitStatus.OK)


def _check() -> int:
    import os

    from kiln.cli.context import settings
    from kiln.cli.output import print_lines
    from kiln.control_plane.trust import record_log
    from kiln.errors import ExitStatus
    from kiln.records.log import check_log
    from kiln.records.store import Records

    found = settings()
    with Records(found.state) as records:
        problems = list(check_log(record_log(found, os.environ), records))
    print_lines(problems or ["the log is that of the records"])
    return int(ExitStatus.REFUSED if problems else ExitStatus.OK)


def _monitor(source: str, key: str, memory: Path, as_json: bool) -> int:
    from kiln.cli.output import print_json, print_lines
    from kiln.control_plane.watching import log_key_of, log_reader
    from kiln.errors import ExitStatus
    from kiln.records.monitor import watch
    from kiln_wire.codec import encode

    with log_reader(source) as read:
        watched = watch(read, log_key_of(key), memory)
    if as_json:
        size = watched.checkpoint.size if watched.checkpoint else 0
        document: dict[str, Any] = {"size": size, "entriesChecked": watched.entries_checked}
        print_json({"kind": "kiln.log-watch/v1", **document, "findings": encode(watched.findings)})
    else:
        for item in watched.findings:
            print_lines([f"{item.component}: {item.reason}: expected {item.expected}, got {item.got}"])
        if watched.checkpoint is not None:
            print_lines([f"{watched.checkpoint.size} entries, {watched.entries_checked} of them new and checked"])
    return int(ExitStatus.REFUSED if watched.findings else ExitStatus.OK)


def _submit() -> int:
    import os
    from datetime import UTC, datetime

    from kiln.cli.context import settings
    from kiln.cli.output import print_lines
    from kiln.control_plane.trust import signing
    from kiln.errors import ExitStatus

    found = settings()
    problems = signing(found, os.environ, int(datetime.now(UTC).timestamp())).witness()
    print_lines(problems or [f"{len(found.witnesses)} witnesses have signed"])
    return int(ExitStatus.INFRASTRUCTURE if problems else ExitStatus.OK)


def _witness(name: str, keys: list[str], listen: str) -> int:
    import os

    from kiln.cli.context import now, settings
    from kiln.cli.output import print_lines
    from kiln.control_plane.watching import open_witness
    from kiln.errors import ExitStatus

    served, key = open_witness(settings(), os.environ, name, keys, listen, now)
    with served as server:
        print_lines([f"http://{server.server_address[0]!s}:{server.server_address[1]}", key.vkey])
        server.serve_forever()
    return int(ExitStatus.OK)
