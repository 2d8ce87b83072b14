"""kiln describe: what a sentence means, without building anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from kiln.cli.options import AsJson, RequestArgument

if TYPE_CHECKING:
    from kiln.authoring.describe.model import Interpretation


def describe(request: RequestArgument, as_json: AsJson = False) -> None:
    """Show the recipe that a sentence becomes, which words led to what, and what else was considered."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _describe, request, as_json))


def _describe(request: str, as_json: bool) -> int:
    from kiln.authoring.catalog.data import load_catalog
    from kiln.authoring.recipe.canonical import recipe_document
    from kiln.cli.ask import settle_questions
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines
    from kiln.cli.request import read_request
    from kiln.control_plane.road.author import understand
    from kiln.errors import ExitStatus

    catalog = load_catalog()
    asked = read_request(request) if as_json else settle_questions(read_request(request), settings(), catalog)
    understood = understand(asked, settings(), catalog)
    if understood.interpretation is not None and not as_json:
        print_lines([*reading_lines(understood.interpretation), ""])
    print_json(recipe_document(understood.recipe))
    return int(ExitStatus.OK)


def reading_lines(reading: Interpretation) -> list[str]:
    """Return which words led to what, what was left out and what else was considered."""
    from kiln.cli.output import table

    rows = [["feature", choice.feature, f'"{choice.words.text}"', choice.how] for choice in reading.selected]
    rows += [
        [slot.name, slot.value, f'"{slot.words.text}"' if slot.words else "-", "said" if slot.words else "default"]
        for slot in reading.slots
    ]
    rows += [["not", choice.feature, f'"{choice.words.text}"', choice.how] for choice in reading.negated]
    rows += [
        ["considered", item.feature, ", ".join(f'"{word}"' for word in item.words), f"score {item.score:.2f}"]
        for item in reading.considered
    ]
    rows += [["unused", note.message, f'"{note.words.text}"', ""] for note in reading.notes]
    return table(rows)
