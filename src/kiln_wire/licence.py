"""Whether an SPDX licence expression can be satisfied with some licences. Reference: SPDX 2.3, annex D."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_TOKEN: Final = re.compile(r"\(|\)|[A-Za-z0-9.+:-]+")
_MAX_LENGTH: Final = 20_000
_MAX_DEPTH: Final = 50


class LicenceError(ValueError):
    """The text is not a licence expression."""


def satisfied(expression: str, accepts: Callable[[str], bool]) -> bool:
    """Return whether *expression* holds: `OR` needs one side, `AND` both; `A WITH B` is asked as `A`.

    Raises LicenceError.
    """
    if len(expression) > _MAX_LENGTH or _TOKEN.sub("", expression).strip():
        raise LicenceError(f"{expression[:80]!r} is not a licence expression")
    reader = _Reader(_TOKEN.findall(expression), accepts)
    result = reader.alternatives(0)
    if reader.next:
        raise LicenceError(f"{reader.next!r} is too much in {expression[:80]!r}")
    return result


class _Reader:
    def __init__(self, tokens: list[str], accepts: Callable[[str], bool]) -> None:
        self._tokens = tokens[::-1]
        self._accepts = accepts

    @property
    def next(self) -> str:
        return self._tokens[-1] if self._tokens else ""

    def alternatives(self, depth: int) -> bool:
        result = self._all(depth)
        while self.next.upper() == "OR":
            self._tokens.pop()
            result = self._all(depth) or result
        return result

    def _all(self, depth: int) -> bool:
        result = self._one(depth)
        while self.next.upper() == "AND":
            self._tokens.pop()
            result = self._one(depth) and result
        return result

    def _one(self, depth: int) -> bool:
        if not self._tokens or depth > _MAX_DEPTH:
            raise LicenceError("the expression ends too early, or is nested too deep")
        word = self._tokens.pop()
        if word == "(":
            result = self.alternatives(depth + 1)
            if self.next != ")":
                raise LicenceError("a bracket is not closed")
            self._tokens.pop()
            return result
        if word == ")" or word.upper() in ("AND", "OR", "WITH"):
            raise LicenceError(f"{word!r} at the wrong place")
        if self.next.upper() == "WITH":
            self._tokens.pop()
            if not self._tokens:
                raise LicenceError("WITH has no exception behind it")
            self._tokens.pop()
        return self._accepts(word)
