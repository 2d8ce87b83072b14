"""kiln chat: a recipe in several turns."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from kiln.authoring.catalog.entries import Catalog
    from kiln.authoring.recipe.model import Recipe
    from kiln.control_plane.settings import Settings


def chat(
    output: Annotated[Path, typer.Option("--output", "-o", help="Recipe file to write; one that is there goes on.")],
    with_model: Annotated[
        bool, typer.Option("--with-model", help="Let the model of the settings read each turn.")
    ] = False,
) -> None:
    """Refine a recipe over several turns, each a line of standard input, and see what each changed."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _chat, output, with_model))


def _chat(output: Path, with_model: bool) -> int:
    from kiln.authoring.catalog.data import load_catalog
    from kiln.authoring.recipe.canonical import recipe_document
    from kiln.authoring.recipe.difference import difference
    from kiln.cli.context import settings
    from kiln.cli.failure import render
    from kiln.cli.output import print_lines
    from kiln.errors import ExitStatus, KilnError
    from kiln.linux.files import write_atomic
    from kiln_wire.canonical import pretty_json

    found, catalog = settings(), load_catalog()
    recipe = _kept(output, catalog, found)
    while True:
        if sys.stdin.isatty():
            sys.stderr.write("> ")
            sys.stderr.flush()
        line = sys.stdin.readline().strip()
        if not line:
            return int(ExitStatus.OK)
        try:
            turned = _turn(line, recipe, catalog, found, with_model)
        except KilnError as error:
            # A turn that cannot be read changes nothing, and the conversation goes on.
            sys.stderr.write(render(error, colour=False) + "\n")
            continue
        lines = difference(recipe, turned) if recipe is not None else difference(_empty(turned), turned)
        print_lines([*(lines or ("nothing changes",)), ""])
        recipe = turned
        write_atomic(output, pretty_json(recipe_document(recipe)))


def _kept(output: Path, catalog: Catalog, settings: Settings) -> Recipe | None:
    from kiln.authoring.catalog.data import known
    from kiln.authoring.recipe.load import RecipeDefaults, read_recipe
    from kiln.authoring.recipe.nodes import MAX_BYTES
    from kiln.linux.files import read_limited

    if not output.exists():
        return None
    data = read_limited(output, MAX_BYTES)
    return read_recipe(data, str(output), known(catalog), RecipeDefaults(settings.base, settings.hardening))


def _empty(recipe: Recipe) -> Recipe:
    from kiln.authoring.recipe.model import Recipe as Empty

    return Empty("", "")


def _turn(line: str, recipe: Recipe | None, catalog: Catalog, settings: Settings, with_model: bool) -> Recipe:
    from kiln.authoring.catalog.resolve import resolve
    from kiln.authoring.describe.interpret import interpret
    from kiln.authoring.describe.model import DescribeDefaults
    from kiln.authoring.describe.refine import refine
    from kiln.control_plane.assistant.assist import read_with_model, required_model

    said = interpret(line, catalog, DescribeDefaults(settings.base, settings.hardening), turn=recipe is not None)
    turned = said.recipe if recipe is None else refine(recipe, said)
    if with_model:
        reading = read_with_model(said, turned, catalog, settings, required_model(settings), os.environ)
        turned = reading.recipe
    resolve(turned, catalog)
    return turned
