"""Patterns of JSON Schema, whose `$` is the end of the text; Python's also matches before a newline at the end.

A name that a schema holds to `^[a-z]+$` must not end with a newline, whichever module's schema it is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any


@functools.cache
def anchored(pattern: str) -> str:
    r"""Return *pattern* with `\Z` for every `$` that is an anchor: not escaped, not in a set of characters."""
    result = []
    in_set = False
    position = 0
    while position < len(pattern):
        character = pattern[position]
        width = 2 if character == "\\" else 1
        if character == "[" and not in_set:
            in_set = True
            # A `]` right at the beginning of a set is one of its characters.
            width += len(pattern[position + 1 : position + 3]) - len(pattern[position + 1 : position + 3].lstrip("^"))
            width += pattern.startswith("]", position + width)
        elif character == "]":
            in_set = False
        result.append(r"\Z" if character == "$" and not in_set else pattern[position : position + width])
        position += width
    return "".join(result)


@functools.cache
def strict_validator() -> Any:
    """Return jsonschema's class for draft 4 with these patterns; the texts of its errors stay those of jsonschema."""
    from jsonschema import Draft4Validator  # noqa: PLC0415 - slow to load, and seldom needed
    from jsonschema.validators import extend  # noqa: PLC0415

    keywords = Draft4Validator.VALIDATORS

    def pattern(validator: Any, value: str, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        return _renamed(keywords["pattern"](validator, anchored(value), instance, schema), [value])

    def pattern_properties(
        validator: Any, value: Mapping[str, Any], instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[Any]:
        properties = {anchored(name): subschema for name, subschema in value.items()}
        found: Iterator[Any] = keywords["patternProperties"](validator, properties, instance, schema)
        return found

    def additional_properties(validator: Any, value: Any, instance: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        patterns = schema.get("patternProperties", {})
        if patterns:
            schema = {**schema, "patternProperties": {anchored(name): entry for name, entry in patterns.items()}}
        return _renamed(keywords["additionalProperties"](validator, value, instance, schema), list(patterns))

    own: dict[str, Callable[..., Iterator[Any]]] = {
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": additional_properties,
    }
    return extend(Draft4Validator, own)  # type: ignore[no-untyped-call]


def _renamed(errors: Iterator[Any], patterns: list[str]) -> Iterator[Any]:
    """Have messages name the patterns as the schema writes them."""
    for error in errors:
        for pattern in patterns:
            error.message = error.message.replace(repr(anchored(pattern)), repr(pattern))
        yield error
