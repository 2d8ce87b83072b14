"""kiln feature: the catalogue."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from kiln.cli.options import AsJson, RequestArgument

feature = typer.Typer(no_args_is_help=True, help="Look at the catalogue of features, and add to it.")
WHY_KIND: Final = "kiln.feature-why/v1"
FeatureName = Annotated[str, typer.Argument(metavar="FEATURE", show_default=False)]


@feature.command("list")
def list_(as_json: AsJson = False) -> None:
    """List every feature."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _list, as_json))


@feature.command()
def show(name: FeatureName) -> None:
    """Show one feature as JSON: what it adds, its options, its checks."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _show, name))


@feature.command()
def why(name: FeatureName, request: RequestArgument, as_json: AsJson = False) -> None:
    """Say why a request has a feature, and what would go without it."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _why, name, request, as_json))


@feature.command()
def new(
    name: FeatureName,
    folder: Annotated[
        Path | None, typer.Option(help="Folder of features.", show_default="that of the catalogue in use")
    ] = None,
) -> None:
    """Write the beginning of a new feature's data file, and check it together with the catalogue."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _new, name, folder))


def _list(as_json: bool) -> int:
    from kiln.authoring.catalog.data import load_catalog
    from kiln.cli.output import print_json, print_lines, table
    from kiln.errors import ExitStatus

    features = load_catalog().features
    if as_json:
        print_json(
            [
                {
                    "id": item.id,
                    "version": item.version,
                    "title": item.title,
                    "category": item.category,
                    "description": item.description,
                    "bases": list(item.bases),
                }
                for item in features
            ]
        )
    else:
        print_lines(table([[item.id, item.version, item.category, item.title] for item in features]))
    return int(ExitStatus.OK)


def _show(name: str) -> int:
    from kiln.authoring.catalog.data import load_catalog
    from kiln.cli.output import print_json
    from kiln.errors import Domain, ExitStatus, KilnError
    from kiln_wire.codec import encode

    found = load_catalog().feature(name)
    if found is None:
        raise KilnError(
            Domain.CATALOG,
            "unknown-feature",
            f"there is no feature `{name}`",
            hint="`kiln feature list` shows all",
            exit_status=ExitStatus.NOT_FOUND,
        )
    print_json(encode(found))
    return int(ExitStatus.OK)


def _why(name: str, request: str, as_json: bool) -> int:
    from kiln.authoring.catalog import why as reasons
    from kiln.authoring.catalog.data import load_catalog
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines, table
    from kiln.cli.request import read_request
    from kiln.control_plane.road.author import resolve_all, understand
    from kiln.errors import Domain, ExitStatus, KilnError
    from kiln_wire.codec import encode

    catalog = load_catalog()
    understood = understand(read_request(request), settings(), catalog)
    found = [item for item in reasons.why(resolve_all(understood, catalog), name) if item.kind == "feature"]
    if not found:
        raise KilnError(
            Domain.CATALOG,
            "not-in-image",
            f"the request does not lead to the feature `{name}`",
            hint="`kiln resolve` shows what it leads to",
            exit_status=ExitStatus.NOT_FOUND,
        )
    removal = reasons.without(understood.recipe, catalog, name)
    if as_json:
        print_json({"kind": WHY_KIND, "feature": encode(found[0]), "without": encode(removal)})
        return int(ExitStatus.OK)
    print_lines([str(found[0].reason), *(f"also: {text}" for text in found[0].reason.also)])
    if removal.kept_by:
        print_lines([f"would stay without being asked for: {' > '.join(removal.kept_by)}"])
    elif removal.gone:
        print_lines(["", "without it would go:", *table([[f"  {item.kind}", item.name] for item in removal.gone])])
    return int(ExitStatus.OK)


def _new(name: str, folder: Path | None) -> int:
    from kiln.authoring.catalog.data import catalog_folder, load_catalog
    from kiln.authoring.catalog.skeleton import skeleton
    from kiln.authoring.recipe import rules
    from kiln.cli.output import print_lines
    from kiln.errors import Domain, ExitStatus, KilnError
    from kiln.linux.files import write_atomic

    path = (folder or catalog_folder() / "features") / f"{name}.yaml"
    if not rules.FEATURE_ID.accepts(name):
        problem, hint = f"`{name}` is not {rules.FEATURE_ID.what}", rules.FEATURE_ID.hint
    elif path.exists() or load_catalog().feature(name) is not None:
        problem, hint = f"there is a feature `{name}` already", "`kiln feature show` shows it"
    elif not path.parent.is_dir():
        problem, hint = f"there is no folder {path.parent}", "make it, or leave `--folder` out"
    else:
        write_atomic(path, skeleton(name).encode("utf-8"))
        print_lines([str(path)])
        return int(ExitStatus.OK)
    raise KilnError(Domain.CATALOG, "bad-feature", problem, hint=hint, exit_status=ExitStatus.USAGE)
