"""Debian version numbers: `[epoch:]upstream[-revision]` and their order (deb-version(7), Debian Policy 5.6.12)."""

from __future__ import annotations

import functools
import re
from typing import Final

_TOKENS: Final = re.compile(r"([^0-9]*)([0-9]*)")
_TILDE_WEIGHT: Final = -1
_NON_LETTER_OFFSET: Final = 256
RELATIONS: Final = ("<<", "<=", "=", ">=", ">>")

Key = tuple[int, tuple[object, ...], tuple[object, ...]]


@functools.lru_cache(maxsize=65536)
def version_key(version: str) -> Key:
    """Return a key by which versions sort as dpkg sorts them. Any text has one; equal keys are equal versions."""
    epoch, colon, rest = version.partition(":")
    number = int(epoch) if colon and epoch.isascii() and epoch.isdigit() else 0
    if not colon:
        rest = version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return number, _part_key(upstream), _part_key(revision)


def compare_versions(left: str, right: str) -> int:
    """Return -1, 0 or 1 as *left* is older than, equal to or newer than *right*."""
    left_key, right_key = version_key(left), version_key(right)
    return (left_key > right_key) - (left_key < right_key)


def satisfies(version: str, relation: str, wanted: str) -> bool:
    """Whether *version* stands in *relation* (`<<`, `<=`, `=`, `>=`, `>>`) to *wanted*. Raises ValueError otherwise."""
    order = compare_versions(version, wanted)
    match relation:
        case "<<":
            return order < 0
        case "<=":
            return order <= 0
        case "=":
            return order == 0
        case ">=":
            return order >= 0
        case ">>":
            return order > 0
        case _:
            raise ValueError(f"{relation!r} is not a relation between versions")


def _part_key(part: str) -> tuple[object, ...]:
    """Alternate non-digit and digit pieces, so that tuples compare as the manual's algorithm does.

    Letters sort before all other characters and `~` before everything, even the end: each character becomes its
    weight, the end of a piece weighs 0.
    """
    key: list[object] = []
    for position, (text, digits) in enumerate(_TOKENS.findall(part)):
        # The first piece counts even when it is empty, so that "" and "0" are equal; later ones always have text.
        if position == 0 or text:
            key.append((*(_weight(char) for char in text), 0))
            key.append(int(digits or "0"))
    # A version that ends is compared as an empty piece with one that goes on: after "~", before all else.
    key.append((0,))
    return tuple(key)


def _weight(char: str) -> int:
    if char == "~":
        return _TILDE_WEIGHT
    return ord(char) if char.isascii() and char.isalpha() else ord(char) + _NON_LETTER_OFFSET
