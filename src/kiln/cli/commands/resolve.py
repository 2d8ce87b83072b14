"""kiln resolve: everything that a request adds, each with its reason."""

from __future__ import annotations

import typer

from kiln.cli.options import AsJson, RequestArgument


def resolve(request: RequestArgument, as_json: AsJson = False) -> None:
    """Show what a request adds to its base: packages, files, services, settings, checks, each with its reason."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _resolve, request, as_json))


def _resolve(request: str, as_json: bool) -> int:
    from kiln.authoring.catalog.data import load_catalog
    from kiln.authoring.catalog.document import resolution_document
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines, table
    from kiln.cli.request import read_request
    from kiln.control_plane.road.author import resolve_all, understand
    from kiln.errors import ExitStatus

    catalog = load_catalog()
    found = resolve_all(understand(read_request(request), settings(), catalog), catalog)
    if as_json:
        print_json(resolution_document(found))
        return int(ExitStatus.OK)
    sections = {
        "features": [[feature.id, feature.version, str(feature.reason)] for feature in found.features],
        "packages": [[wish.name, str(wish.reason)] for wish in found.packages],
        "files": [[wish.path, f"{wish.mode:04o}", str(wish.reason)] for wish in found.files],
        "services": [[wish.unit, wish.state, str(wish.reason)] for wish in found.services],
        "sysctls": [[f"{wish.key} = {wish.value}", str(wish.reason)] for wish in found.sysctls],
        "users": [[wish.name, str(wish.reason)] for wish in found.users],
        "ports": [
            [f"{wish.port}/{wish.protocol}", "open" if wish.exposed else "local", str(wish.reason)]
            for wish in found.ports
        ],
        "assertions": [
            [wish.assertion.type, _params(wish.assertion.params), str(wish.reason)] for wish in found.assertions
        ],
    }
    for title, rows in sections.items():
        if rows:
            print_lines([f"{title} ({len(rows)})", *("  " + line for line in table(rows)), ""])
    return int(ExitStatus.OK)


def _params(params: tuple[tuple[str, object], ...]) -> str:
    return " ".join(f"{key}={value}" for key, value in params)
