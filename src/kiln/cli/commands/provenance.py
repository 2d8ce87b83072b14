"""kiln provenance: the chain from the request to the signed image, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiln.cli.options import AsJson, ImageArgument


def provenance(image: ImageArgument, as_json: AsJson = False) -> None:
    """Tell where an image comes from, from the words of the request to the record."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _provenance, image, as_json))


def why(
    question: Annotated[
        str,
        typer.Argument(
            metavar="THING", help="A package, file, user, port, unit, kernel setting or feature.", show_default=False
        ),
    ],
    image: ImageArgument,
    remove: Annotated[bool, typer.Option("--remove", help="Say what would go if this feature were left out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell why something is in an image."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _remove if remove else _why, question, image, as_json))


def _provenance(image: Path, as_json: bool) -> int:
    from kiln.cli.output import print_json, print_lines
    from kiln.control_plane.explaining import chain_of
    from kiln.errors import ExitStatus

    steps = chain_of(image if image.is_dir() else image.parent)
    if as_json:
        print_json(
            {
                "kind": "kiln.provenance/v1",
                "steps": [{"title": item.title, "facts": dict(item.facts)} for item in steps],
            }
        )
        return int(ExitStatus.OK)
    for step in steps:
        print_lines([step.title, *(f"    {label}: {text}" for label, text in step.facts)])
    print_lines(["", f"`kiln verify {image}` checks all of it"])
    return int(ExitStatus.OK)


def _why(question: str, image: Path, as_json: bool) -> int:
    from kiln.cli.output import print_json, print_lines
    from kiln.control_plane.explaining import origins
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    found = origins(image if image.is_dir() else image.parent, question)
    if as_json:
        print_json({"kind": "kiln.why/v1", "origins": encode(found)})
        return int(ExitStatus.OK)
    for origin in found:
        print_lines([f"{origin.kind} {origin.name}", "    " + " > ".join(origin.chain)])
        print_lines([f"    also: {text}" for text in origin.also])
    return int(ExitStatus.OK)


def _remove(feature: str, image: Path, as_json: bool) -> int:
    from kiln.cli.output import print_json, print_lines
    from kiln.cli.words import size
    from kiln.control_plane.explaining import without
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    found = without(image if image.is_dir() else image.parent, feature)
    if as_json:
        print_json({"kind": "kiln.removal/v1", **encode(found)})
        return int(ExitStatus.OK)
    print_lines([f"without the feature {feature}, {size(found.installed_bytes)} would go:"])
    for title in ("features", "packages", "files", "services", "users", "ports", "sysctls"):
        names = getattr(found, title)
        if names:
            print_lines([f"  {title} ({len(names)}): {', '.join(names)}"])
    return int(ExitStatus.OK)
