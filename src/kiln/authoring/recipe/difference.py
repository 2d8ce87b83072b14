"""What differs between two recipes, line by line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kiln.authoring.recipe.canonical import recipe_document
from kiln.authoring.recipe.model import Recipe

_KEYS = ("id", "username", "name", "description")
"""What entries of lists are known by."""


def difference(before: Recipe, after: Recipe) -> tuple[str, ...]:
    """Return lines such as `- features.docker`, `+ features.ssh.options.port = 2222`; nothing where both are equal."""
    old, new = dict(_flat(recipe_document(before))), dict(_flat(recipe_document(after)))
    lines = []
    for path in sorted(old.keys() | new.keys()):
        if path not in new:
            lines.append(f"- {_line(path, old[path])}")
        elif path not in old:
            lines.append(f"+ {_line(path, new[path])}")
        elif old[path] != new[path]:
            lines.append(f"~ {path} = {new[path]} (was {old[path]})")
    return tuple(lines)


def _line(path: str, value: Any) -> str:
    return path if value is None else f"{path} = {value}"


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            name = next((item[key] for key in _KEYS if key in item), number) if isinstance(item, dict) else item
            if not isinstance(item, dict):
                yield f"{path}.{name}", None
                continue
            yield f"{path}.{name}", None
            yield from _flat({key: part for key, part in item.items() if part != name}, f"{path}.{name}")
    else:
        yield path, value
