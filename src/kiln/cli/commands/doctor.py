"""kiln doctor: what this host lacks, and how to get it."""

from __future__ import annotations

import typer

from kiln.cli.options import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Say what this host has and lacks for building images, and how to get it."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _doctor, as_json))


def _doctor(as_json: bool) -> int:
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines, table
    from kiln.control_plane.doctor import examine, usable
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    findings = examine(settings())
    if as_json:
        print_json({"kind": "kiln.doctor/v1", "usable": usable(findings), "findings": encode(findings)})
    else:
        marks = {"ok": "ok", "warning": "warning", "missing": "MISSING"}
        print_lines(table([[marks[item.status], item.name, item.text] for item in findings]))
        hints = [f"  {item.name}: {item.hint}" for item in findings if item.hint and item.status != "ok"]
        if hints:
            print_lines(["", "What to do:", *hints])
    return int(ExitStatus.OK if usable(findings) else ExitStatus.INFRASTRUCTURE)
