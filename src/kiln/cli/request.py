"""What a person typed, as a request."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from kiln.authoring.recipe.nodes import MAX_BYTES
from kiln.authoring.recipe.outputs import OUTPUT_NAMES
from kiln.control_plane.road.model import Request
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux.files import read_limited

MAX_MANIFEST_BYTES: Final = 64 * 1024 * 1024
RECIPE_SUFFIXES: Final = (".json", ".yaml", ".yml", ".toml")


def read_request(argument: str) -> Request:
    """Return the request: a recipe file if *argument* names one, standard input for `-`, else a sentence.

    Raises KilnError(RECIPE) with reason `no-recipe` or `not-text`.
    """
    if argument == "-":
        return Request("sentence", sys.stdin.read())
    path = Path(argument)
    if path.suffix.lower() not in RECIPE_SUFFIXES or "\n" in argument:
        return Request("sentence", argument)
    try:
        return Request("recipe", read_limited(path, MAX_BYTES).decode("utf-8"), str(path))
    except FileNotFoundError:
        raise _refuse("no-recipe", f"there is no recipe file {path}", ExitStatus.NOT_FOUND) from None
    except IsADirectoryError:
        raise _refuse("no-recipe", f"{path} is a directory", ExitStatus.USAGE) from None
    except UnicodeDecodeError:
        raise _refuse("not-text", f"{path} is not UTF-8 text", ExitStatus.USAGE) from None


def split_outputs(values: Sequence[str]) -> tuple[Path | None, tuple[str, ...]]:
    """Return the image directory and the names of outputs among the values of `--output`.

    Raises KilnError(SETTINGS, "bad-option") for a second directory.
    """
    named = tuple(value for value in values if value in OUTPUT_NAMES)
    others = [value for value in values if value not in OUTPUT_NAMES]
    if len(others) > 1:
        raise KilnError(
            Domain.SETTINGS,
            "bad-option",
            f"`{others[1]}` is no output, and the image directory is `{others[0]}` already",
            hint=f"outputs are {', '.join(OUTPUT_NAMES)}",
            exit_status=ExitStatus.USAGE,
        )
    return (Path(others[0]) if others else None), named


def manifest_data(argument: str) -> bytes | None:
    """Return the content of a manifest file, or None if *argument* is another kind of request."""
    path = Path(argument)
    if path.suffix.lower() != ".json" or "\n" in argument or not path.is_file():
        return None
    from kiln.authoring.unlocked.read import looks_like_manifest

    # A locked form has a reference and a source for each package.
    data = read_limited(path, MAX_MANIFEST_BYTES)
    return data if looks_like_manifest(data) else None


def _refuse(reason: str, message: str, status: ExitStatus) -> KilnError:
    return KilnError(
        Domain.RECIPE, reason, message, hint="give a sentence in quotes, or the path of a recipe", exit_status=status
    )
