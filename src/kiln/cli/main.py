"""The program `kiln`."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from kiln import __version__
from kiln.cli.commands.advisories import advisories
from kiln.cli.commands.build import build
from kiln.cli.commands.chat import chat
from kiln.cli.commands.describe import describe
from kiln.cli.commands.diff import diff
from kiln.cli.commands.doctor import doctor
from kiln.cli.commands.feature import feature
from kiln.cli.commands.keys import keys
from kiln.cli.commands.licences import licences
from kiln.cli.commands.lock import lock
from kiln.cli.commands.log import log
from kiln.cli.commands.mcp import mcp
from kiln.cli.commands.pack import copy, pack
from kiln.cli.commands.preview import preview
from kiln.cli.commands.provenance import provenance, why
from kiln.cli.commands.records import records
from kiln.cli.commands.reproduce import reproduce
from kiln.cli.commands.resolve import resolve
from kiln.cli.commands.run import run as run_image
from kiln.cli.commands.sbom import sbom
from kiln.cli.commands.scan import scan
from kiln.cli.commands.schema import schema
from kiln.cli.commands.sign import approve, attest, sign
from kiln.cli.commands.store import store
from kiln.cli.commands.verify import verify

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="From a sentence to a booted, signed operating-system image.",
)


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"kiln {__version__}\n")
        raise typer.Exit(0)


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


app.command()(build)
app.command()(describe)
app.command()(chat)
app.command()(resolve)
app.command()(preview)
app.command(name="run")(run_image)
app.command()(verify)
app.command()(sbom)
app.command()(licences)
app.command()(scan)
app.command()(diff)
app.command()(provenance)
app.command()(why)
app.command()(sign)
app.command()(attest)
app.command()(approve)
app.command()(pack)
app.command()(copy)
app.command()(reproduce)
app.command()(doctor)
app.add_typer(advisories, name="advisories")
app.add_typer(lock, name="lock")
app.command()(mcp)
app.add_typer(feature, name="feature")
app.add_typer(keys, name="keys")
app.add_typer(log, name="log")
app.add_typer(records, name="records")
app.add_typer(store, name="store")
app.add_typer(schema, name="schema")


def run() -> None:
    """Run the program; ends the process with the documented exit status."""
    # A killed build ends like an interrupted one, through every clean-up on the way.
    signal.signal(signal.SIGTERM, _terminated)
    app()


def _terminated(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
