"""kiln schema: the JSON Schema of what people write."""

from __future__ import annotations

import typer

schema = typer.Typer(no_args_is_help=True, help="Print JSON Schemas, for editors and programs.")


@schema.command()
def recipe() -> None:
    """Print the JSON Schema of recipes, with the features and bases of this machine's catalogue."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(True, _recipe))


def _recipe() -> int:
    from kiln.authoring.catalog.data import known, load_catalog
    from kiln.authoring.recipe.schema import recipe_schema
    from kiln.cli.output import print_json
    from kiln.errors import ExitStatus

    names = known(load_catalog())
    print_json(recipe_schema(names.features, names.bases))
    return int(ExitStatus.OK)
