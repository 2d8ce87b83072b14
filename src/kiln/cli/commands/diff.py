"""kiln diff: what changed between two images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kiln.cli.options import AsJson

if TYPE_CHECKING:
    from kiln.explain.model import Change, Difference

Side = Annotated[Path, typer.Argument(help="An image directory, a lock or an SBOM.", show_default=False)]


def diff(
    before: Side,
    after: Side,
    fail_on: Annotated[
        str, typer.Option("--fail-on", help="Reasons or severities to refuse, with commas, such as new-listener,high.")
    ] = "",
    html: Annotated[bool, typer.Option("--html", help="Print an HTML page.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="List changes that are only information, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two images; exit status 4 if `--fail-on` refuses a change."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _diff, before, after, fail_on, html, everything, as_json))


def _diff(before: Path, after: Path, fail_on: str, html: bool, everything: bool, as_json: bool) -> int:
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines
    from kiln.control_plane.explaining import difference
    from kiln.errors import ExitStatus
    from kiln.explain.compare import gate
    from kiln.explain.html import html_page
    from kiln_wire.codec import encode

    found = difference(before, after, settings())
    words = [word.strip() for word in fail_on.split(",") if word.strip()]
    refused = gate(found, words)
    if as_json:
        missing = [{"section": section, "lacking": side} for section, side in found.not_compared]
        document = {"before": found.before, "after": found.after, "changes": encode(found.changes)}
        print_json({"kind": "kiln.diff/v1", **document, "notCompared": missing, "refused": encode(refused)})
    elif html:
        sys.stdout.write(html_page(found))
    else:
        print_lines(difference_lines(found, refused, everything=everything))
    return int(ExitStatus.REFUSED if refused else ExitStatus.OK)


def difference_lines(found: Difference, refused: tuple[Change, ...], *, everything: bool) -> list[str]:
    """Return the changes, worst first; those that are only information as a number for each reason."""
    from collections import Counter

    from kiln.cli.output import table

    shown = [item for item in found.changes if everything or item.severity != "info"]
    lines = table([[item.severity, item.reason, item.subject, f"{item.before} -> {item.after}"] for item in shown])
    rest = Counter(item.reason for item in found.changes if item not in set(shown))
    lines += [f"info      {count} {reason}" for reason, count in sorted(rest.items())]
    if not found.changes:
        lines.append("no differences")
    lines += [f"not compared: {section} (nothing is said by {side})" for section, side in found.not_compared]
    lines += [f"REFUSED: {item.reason} {item.subject}" for item in refused]
    return lines
