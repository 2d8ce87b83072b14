"""One spelling of a JSON document, and a reader that refuses what two readers could read differently.

The canonical form is RFC 8785 (JCS) restricted to what Kiln's documents hold: objects, arrays, strings,
booleans, null and integers up to 2**53 - 1. Floats are refused, because their spelling is where
implementations differ.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, Final

MAX_SAFE_INTEGER: Final = 2**53 - 1  # RFC 8785, appendix D: larger integers lose digits in an IEEE double
DEFAULT_MAX_BYTES: Final = 64 * 1024 * 1024
DEFAULT_MAX_DEPTH: Final = 64
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_DEPTH_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # +1 and -1 as signed bytes


class CanonicalError(ValueError):
    """The document has no canonical form, or its text can be read in more than one way."""


def canonical_json(document: object) -> bytes:
    """Return the canonical bytes of *document*, without a newline at the end.

    Raises CanonicalError for floats, integers beyond 2**53 - 1, keys that are not strings, and strings
    that are not valid Unicode.
    """
    # ASCII keys have the same order by code points as by UTF-16 code units, and json.dumps sorts those in C
    ascii_keys = _check(document, 0)
    ordered = document if ascii_keys else _sorted(document)
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=ascii_keys)
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
    _check_depth(data, max_depth)
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise CanonicalError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except CanonicalError:
        raise
    except ValueError as error:  # an integer with more digits than sys.get_int_max_str_digits()
        raise CanonicalError(str(error)) from None


def _sorted(value: object) -> object:
    # RFC 8785, section 3.2.3: keys are sorted by their UTF-16 code units.
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value, key=_utf16)}
    if isinstance(value, (list, tuple)):
        return [_sorted(item) for item in value]
    return value


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")  # a lone surrogate is refused with the finished text


def _check(value: object, depth: int) -> bool:
    """Refuse what has no canonical form; return whether all keys are ASCII."""
    if depth > DEFAULT_MAX_DEPTH:
        raise CanonicalError(f"nested deeper than {DEFAULT_MAX_DEPTH} levels")
    ascii_keys = True
    items: Iterable[object]
    match value:
        case None | bool() | str():
            return True
        case int():
            if abs(value) > MAX_SAFE_INTEGER:
                raise CanonicalError(f"{value} is beyond 2**53 - 1")
            return True
        case dict():
            for key in value:
                if not isinstance(key, str):
                    raise CanonicalError(f"the key {key!r} is not a string")
                ascii_keys = ascii_keys and key.isascii()
            items = value.values()
        case list() | tuple():
            items = value
        case _:
            raise CanonicalError(f"{type(value).__name__} has no canonical form")
    for item in items:
        # strings are most of every document; not calling for them halves the time
        if type(item) is not str and not _check(item, depth + 1):
            ascii_keys = False
    return ascii_keys


def _check_depth(data: bytes, max_depth: int) -> None:
    # Without escaped backslashes and escaped quotes, every second piece between quotes is outside of strings.
    # (A backslash outside of a string is refused by the parser before it gets to any bracket behind it.)
    outside = data.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2]
    steps = array("b", b"".join(outside).translate(_DEPTH_STEPS, _NOT_BRACKETS))
    if max(accumulate(steps), default=0) > max_depth:
        raise CanonicalError(f"nested deeper than {max_depth} levels")


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
