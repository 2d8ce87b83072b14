"""kiln licences: under which licences the software of an image stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiln.cli.options import AsJson, ImageArgument


def licences(
    image: ImageArgument,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", help="Pattern of SPDX licences; all others are refused. Repeatable.")
    ] = None,
    deny: Annotated[
        list[str] | None, typer.Option("--deny", help="Pattern of SPDX licences to refuse. Repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the licence of each package; exit status 4 if `--allow` or `--deny` refuses one."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _licences, image, tuple(allow or ()), tuple(deny or ()), as_json))


def _licences(image: Path, allow: tuple[str, ...], deny: tuple[str, ...], as_json: bool) -> int:
    from kiln.attestation.licence_report import LicencePolicy, licence_report, violations
    from kiln.cli.output import print_json, print_lines, table
    from kiln.control_plane.images import inventory_of
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    report = licence_report(inventory_of(image))
    refused = violations(report, LicencePolicy(allow, deny))
    if as_json:
        print_json({"kind": "kiln.licences/v1", **encode(report), "violations": encode(refused)})
    else:
        print_lines(table([[item.name, item.version, item.source, item.licence] for item in report.packages]))
        print_lines(["", *table([[f"{count}", name] for name, count in report.identifiers])])
        print_lines([f"REFUSED ({item.reason}): {item.name}: {item.licence}" for item in refused])
    return int(ExitStatus.REFUSED if refused else ExitStatus.OK)
