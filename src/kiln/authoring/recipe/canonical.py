"""The one spelling of a recipe, and its digest.

Written in full: the name, the base, hardening, locale and time zone. Left out: what is empty anyway, so that a field
that a later version of Kiln adds does not change the digest of the recipes that do not use it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from kiln.authoring.recipe.load import KIND
from kiln.authoring.recipe.model import Recipe
from kiln_wire.canonical import canonical_json
from kiln_wire.codec import camel, encode
from kiln_wire.digest import Digest


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as JSON data, with `kind`; `read_recipe` reads it back into an equal value."""
    document = encode(recipe)
    _leave_out_empty(recipe, document)
    return {"kind": KIND, **document}


def recipe_bytes(recipe: Recipe) -> bytes:
    """Return the canonical bytes (RFC 8785) of the recipe."""
    return canonical_json(recipe_document(recipe))


def recipe_digest(recipe: Recipe) -> Digest:
    """Return the SHA-256 digest of the canonical bytes."""
    return Digest.of(recipe_bytes(recipe))


def _leave_out_empty(value: Any, document: dict[str, Any]) -> None:
    for field in dataclasses.fields(value):
        item, key = getattr(value, field.name), camel(field.name)
        if dataclasses.is_dataclass(item):
            _leave_out_empty(item, document[key])
        elif isinstance(item, tuple) and item and dataclasses.is_dataclass(item[0]):
            for entry, entry_document in zip(item, document[key], strict=True):
                _leave_out_empty(entry, entry_document)
        written = document[key]
        empty = written is None or written in ("", [], {}) or (written == 0 and not isinstance(written, bool))
        # A section without a word in it differs from one that is not there where the default is None.
        if empty and field.default is not dataclasses.MISSING and (item is None or field.default is not None):
            del document[key]
