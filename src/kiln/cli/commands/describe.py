"""kiln describe: what a sentence means, without building anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kiln.cli.options import AsJson, RequestArgument

if TYPE_CHECKING:
    from kiln.authoring.catalog.entries import Catalog
    from kiln.authoring.describe.model import Interpretation
    from kiln.authoring.recipe.model import Recipe


def describe(
    request: RequestArgument,
    as_json: AsJson = False,
    with_model: Annotated[
        bool, typer.Option("--with-model", help="Let the model of the settings read the sentence, too.")
    ] = False,
    evidence: Annotated[
        Path | None, typer.Option("--evidence", help="File for what the model was asked and what it answered.")
    ] = None,
) -> None:
    """Show the recipe that a sentence becomes, which words led to what, and what else was considered."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _describe, request, as_json, with_model, evidence))


def _describe(request: str, as_json: bool, with_model: bool, evidence: Path | None) -> int:
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
    recipe = understood.recipe
    if with_model and understood.interpretation is not None:
        recipe = _asked_model(understood.interpretation, catalog, evidence)
    print_json(recipe_document(recipe))
    return int(ExitStatus.OK)


def _asked_model(said: Interpretation, catalog: Catalog, evidence: Path | None) -> Recipe:
    """Return the model's recipe, or the offline one if the person at the terminal does not take it."""
    from kiln.cli.ask import confirmed, is_terminal
    from kiln.cli.context import settings
    from kiln.control_plane.assistant.assist import read_with_model, required_model
    from kiln.linux.files import write_atomic
    from kiln_wire.canonical import pretty_json

    found = settings()
    reading = read_with_model(said, said.recipe, catalog, found, required_model(found), os.environ)
    if evidence is not None:
        write_atomic(evidence, pretty_json(reading.evidence))
    lines = [f"  {line}" for line in reading.difference] or ["  nothing"]
    sys.stderr.write("\n".join(["the model reads differently:", *lines]) + "\n")
    if reading.difference and is_terminal() and not confirmed("take the model's reading?"):
        return said.recipe
    return reading.recipe


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
