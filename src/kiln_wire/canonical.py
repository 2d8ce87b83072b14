"""One spelling of a JSON document, and a reader that refuses what two readers could read differently.

The canonical form is RFC 8785 (JCS) restricted to what Kiln's documents hold: objects, arrays, strings,
booleans, null and integers up to 2**53 - 1. Floats are refused, because their spelling is where
implementations differ.
"""

from __future__ import annotations

import json
from typing import Any, Final

MAX_SAFE_INTEGER: Final = 2**53 - 1  # RFC 8785, appendix D: larger integers lose digits in an IEEE double
DEFAULT_MAX_BYTES: Final = 64 * 1024 * 1024
DEFAULT_MAX_DEPTH: Final = 64


class CanonicalError(ValueError):
    """The document has no canonical form, or its text can be read in more than one way."""


def canonical_json(document: object) -> bytes:
    """Return the canonical bytes of *document*, without a newline at the end.

    Raises CanonicalError for floats, integers beyond 2**53 - 1, keys that are not strings, and strings
    that are not valid Unicode.
    """
    _check(document, 0)
    text = json.dumps(_sorted(document), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CanonicalError(f"a string holds a lone surrogate: {error}") from None


def pretty_json(document: object) -> bytes:
    """Return *document* indented for people, with the same order of keys as the canonical form."""
    _check(document, 0)
    return (json.dumps(_sorted(document), ensure_ascii=False, indent=2) + "\n").encode("utf-8")


def strict_loads(data: bytes, *, max_bytes: int = DEFAULT_MAX_BYTES, max_depth: int = DEFAULT_MAX_DEPTH) -> Any:
    """Read JSON and refuse duplicate keys, NaN, trailing text, invalid UTF-8, and oversized or deep documents.

    Raises CanonicalError.
    """
    if len(data) > max_bytes:
        raise CanonicalError(f"the document has {len(data)} bytes, more than the limit of {max_bytes}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CanonicalError(f"the document is not UTF-8: {error}") from None
    _check_depth(text, max_depth)
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise CanonicalError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None


def _sorted(value: object) -> object:
    # RFC 8785, section 3.2.3: keys are sorted by their UTF-16 code units.
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=lambda k: k.encode("utf-16-be"))}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value


def _check(value: object, depth: int) -> None:
    if depth > DEFAULT_MAX_DEPTH:
        raise CanonicalError(f"nested deeper than {DEFAULT_MAX_DEPTH} levels")
    match value:
        case None | bool() | str():
            return
        case int():
            if abs(value) > MAX_SAFE_INTEGER:
                raise CanonicalError(f"{value} is beyond 2**53 - 1")
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise CanonicalError(f"the key {key!r} is not a string")
                _check(item, depth + 1)
        case list() | tuple():
            for item in value:
                _check(item, depth + 1)
        case _:
            raise CanonicalError(f"{type(value).__name__} has no canonical form")


def _check_depth(text: str, max_depth: int) -> None:
    depth, in_string, escaped = 0, False, False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == '"':
                in_string = False
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > max_depth:
                raise CanonicalError(f"nested deeper than {max_depth} levels")
        elif char in "]}":
            depth -= 1


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise CanonicalError(f"the key {key!r} stands twice in one object")
            seen.add(key)
    return result


def _no_constant(name: str) -> object:
    raise CanonicalError(f"{name} is not JSON")
