"""kiln sbom: what is inside an image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from kiln.cli.options import ImageArgument


def sbom(
    image: ImageArgument,
    form: Annotated[str, typer.Option("--format", help="cyclonedx, spdx or table.")] = "table",
) -> None:
    """Print the software bill of materials of an image."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(form != "table", _sbom, image, form))


def _sbom(image: Path, form: str) -> int:
    import json

    from kiln.cli.output import print_lines, table
    from kiln.errors import Domain, ExitStatus, KilnError
    from kiln_wire import layout

    files = {"cyclonedx": layout.CYCLONEDX, "table": layout.CYCLONEDX, "spdx": layout.SPDX}
    if form not in files:
        raise KilnError(
            Domain.ATTESTATION,
            "unknown-format",
            f"--format {form}: choose {', '.join(files)}",
            exit_status=ExitStatus.USAGE,
        )
    directory = image if image.is_dir() else image.parent
    path = directory / files[form]
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise KilnError(
            Domain.ATTESTATION,
            "no-sbom",
            f"there is no {path}",
            hint="give an image directory that `kiln build` has made",
            exit_status=ExitStatus.NOT_FOUND,
        ) from None
    if form != "table":
        sys.stdout.write(text)
        return int(ExitStatus.OK)
    rows = [[item["name"], item["version"], item["purl"]] for item in json.loads(text)["components"]]
    print_lines(table(rows))
    return int(ExitStatus.OK)
