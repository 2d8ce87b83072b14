"""kiln scan: known vulnerabilities of an image, an SBOM or a lock."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kiln.cli.options import AsJson

if TYPE_CHECKING:
    from kiln.vulnerabilities.result import ScanResult


def scan(
    target: Annotated[
        Path,
        typer.Argument(metavar="TARGET", help="An image directory, an SBOM (JSON) or a lock.", show_default=False),
    ],
    fail_on: Annotated[
        str, typer.Option("--fail-on", help="Refuse findings rated none, low, medium, high, critical, or worse.")
    ] = "",
    vex: Annotated[
        list[Path] | None, typer.Option("--vex", help="VEX document or folder to apply. Repeatable.")
    ] = None,
    sign: Annotated[bool, typer.Option("--sign", help="Sign the result as a statement about the image.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look for known vulnerabilities; exit status 4 if `--fail-on` refuses them."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _scan, target, fail_on, vex or [], sign, as_json))


def _scan(target: Path, fail_on: str, vex: list[Path], sign: bool, as_json: bool) -> int:

    from kiln.attestation.provenance import time_text
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines
    from kiln.control_plane.scanning import rating_named, read_statements, scan_target, sign_scan
    from kiln.errors import ExitStatus
    from kiln.vulnerabilities.result import scan_document
    from kiln.vulnerabilities.targets import read_target

    threshold = rating_named(fail_on) if fail_on else None
    found = settings()
    statements, _ = read_statements([*found.vex, *vex])
    scannable = read_target(target)
    result = scan_target(scannable, found.advisory_database, statements, lambda: time_text(datetime.now(UTC)))
    if sign:
        sign_scan(target, result, found, os.environ, datetime.now(UTC))
    if as_json:
        print_json(scan_document(result))
    else:
        print_lines(result_lines(result, scannable.unnamed))
    if threshold is not None and (result.failing(threshold) or not result.complete):
        return int(ExitStatus.REFUSED)
    return int(ExitStatus.OK)


def result_lines(result: ScanResult, unnamed: int) -> list[str]:
    """Return findings, worst first, those that VEX suppresses with the reason, and what was not covered."""
    from kiln.cli.output import table

    counting = [item for item in result.findings if item.counts]
    hidden = [item for item in result.findings if not item.counts]
    rows = [
        [
            item.rating + (f" {item.score_tenths / 10:.1f}" if item.score_tenths >= 0 else ""),
            item.id,
            f"{item.name} {item.version}",
            f"fixed in {item.fixed[0]}" if item.fixed else "no fix yet",
            item.summary[:80],
        ]
        for item in counting
    ]
    lines = table(rows)
    for item in hidden:
        decision = item.vex
        assert decision is not None  # noqa: S101 - only VEX hides
        why = decision.justification or decision.statement
        lines.append(f"{decision.status}  {item.id}  {item.name} {item.version}  {why}  ({decision.document})")
    lines += [""] * bool(lines)
    known = (
        f"database {result.database.version.hex[:12]}, newest advisory {result.database.modified or 'without a time'}"
    )
    lines.append(f"{len(counting)} findings, {len(hidden)} suppressed by VEX, {result.components} components; {known}")
    lines += [
        f"NOT COVERED: {item.components} components of {item.ecosystem}: no advisory of the database is about them"
        for item in result.coverage
        if not item.covered
    ]
    if unnamed:
        lines.append(f"NOT COVERED: {unnamed} components without a package URL")
    lines += [f"NOT COMPARED: {item.purl} with {item.advisory}: {item.problem}" for item in result.not_compared]
    lines.append(f"verdict: {result.verdict}")
    return lines
