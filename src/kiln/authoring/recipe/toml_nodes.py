"""TOML 1.0 text as nodes that know where they were written.

The standard library reads TOML, but forgets lines and columns. It stays the judge of what is TOML: a text is given
to it first, and only one that it takes is walked through for its places. Dates and times are text, as in YAML.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Final

from kiln.authoring.recipe.nodes import MAX_BYTES, MAX_DEPTH, MAX_DIGITS, Kind, Node, NodeError

_ERROR_PLACE: Final = re.compile(r"(?P<problem>.*) \(at (?:line (?P<line>[0-9]+), column (?P<column>[0-9]+)|end.*)\)")
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
# In this order, because the opening of a text of several lines begins like that of a text of one line.
_STRING: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}|\'\'\'(?:[^\']|\'(?!\'\'))*\'{3,5}|"(?:[^"\\]|\\.)*"|\'[^\']*\'', re.DOTALL
)
_PLAIN: Final = re.compile(r"[^,\]}#\r\n]+")
_BOOLEANS: Final = {"true": True, "false": False}


@dataclass(slots=True)
class _Table:
    """A table, or a list of tables, while it is filled."""

    kind: Kind
    at: int
    entries: dict[str, tuple[int, _Table | Node]] = field(default_factory=dict)
    items: list[_Table] = field(default_factory=list)


def read_toml(data: bytes) -> Node:
    """Read a TOML document. Raises NodeError."""
    if len(data) > MAX_BYTES:
        raise NodeError(f"the file has {len(data)} bytes, more than the limit of {MAX_BYTES}", 1, 1)
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise NodeError(f"not UTF-8 at byte {error.start}", data[: error.start].count(b"\n") + 1, 1) from None
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax(str(error), text) from None
    except (RecursionError, ValueError):
        # `int` of some thousand digits is a ValueError of its own.
        raise NodeError("nested too deeply, or a number that is too long", 1, 1) from None
    return _Walk(text).document()


def _syntax(said: str, text: str) -> NodeError:
    match = _ERROR_PLACE.fullmatch(said)
    if match is None:
        return NodeError(said, 1, 1)
    if match["line"] is None:
        return NodeError(match["problem"], text.count("\n") + 1, 1)
    return NodeError(match["problem"], int(match["line"]), int(match["column"]))


class _Walk:
    """One pass over a text that is known to be TOML."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def document(self) -> Node:
        root = table = _Table("object", 0)
        self.blank()
        while self.at < len(self.text):
            if self.accept("["):
                several = self.accept("[")
                start, keys = self.at, self.key()
                self.at += 2 if several else 1
                table = self.open(root, keys, several, start)
            else:
                self.entry(table, 0)
            self.blank()
        return self.node(root)

    def open(self, root: _Table, keys: list[tuple[str, int]], several: bool, start: int) -> _Table:
        table = self.descend(root, keys[:-1])
        name, at = keys[-1]
        if several:
            _, found = table.entries.setdefault(name, (at, _Table("array", start)))
            assert isinstance(found, _Table), "tomllib takes no table where a value is"  # noqa: S101
            found.items.append(_Table("object", start))
            return found.items[-1]
        return self.descend(table, keys[-1:])

    def descend(self, table: _Table, keys: list[tuple[str, int]]) -> _Table:
        if len(keys) > MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH} levels")
        for name, at in keys:
            _, found = table.entries.setdefault(name, (at, _Table("object", at)))
            assert isinstance(found, _Table), "tomllib takes no table where a value is"  # noqa: S101
            table = found.items[-1] if found.kind == "array" else found
        return table

    def entry(self, table: _Table, depth: int) -> None:
        keys = self.key()
        self.space()
        self.at += 1  # the equals sign
        self.space()
        inner = self.descend(table, keys[:-1])
        name, at = keys[-1]
        inner.entries[name] = (at, self.value(depth))

    def key(self) -> list[tuple[str, int]]:
        keys: list[tuple[str, int]] = []
        while True:
            self.space()
            start = self.at
            bare = _BARE.match(self.text, self.at)
            if bare is not None:
                self.at = bare.end()
                keys.append((bare.group(), start))
            else:
                keys.append((self.string(), start))
            self.space()
            if not self.accept("."):
                return keys

    def value(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH} levels")
        start, char = self.at, self.text[self.at]
        line, column = self.place(start)
        if char == "[":
            return Node("array", line, column, items=tuple(self.elements(depth)))
        if char == "{":
            return self.inline_table(depth)
        if char in "\"'":
            return Node("string", line, column, self.string())
        match = _PLAIN.match(self.text, self.at)
        if match is None:
            raise AssertionError("tomllib takes no empty value")
        self.at = match.end()
        return self.scalar(match.group().strip(), line, column)

    def elements(self, depth: int) -> list[Node]:
        self.at += 1
        items: list[Node] = []
        self.blank()
        while not self.accept("]"):
            items.append(self.value(depth + 1))
            self.blank()
            self.accept(",")
            self.blank()
        return items

    def inline_table(self, depth: int) -> Node:
        table = _Table("object", self.at)
        self.at += 1
        self.blank()
        while not self.accept("}"):
            self.entry(table, depth + 1)
            self.blank()
            self.accept(",")
            self.blank()
        return self.node(table)

    def scalar(self, text: str, line: int, column: int) -> Node:
        if text in _BOOLEANS:
            return Node("boolean", line, column, _BOOLEANS[text])
        plain: object = tomllib.loads(f"x = {text}")["x"]
        if isinstance(plain, int):
            if len(str(abs(plain))) > MAX_DIGITS:
                raise NodeError("an integer with more than 16 digits", line, column)
            return Node("integer", line, column, plain)
        if isinstance(plain, float):
            return Node("number", line, column, plain)
        return Node("string", line, column, text)

    def string(self) -> str:
        match = _STRING.match(self.text, self.at)
        if match is None:
            raise AssertionError("tomllib takes no other text")
        self.at = match.end()
        return str(tomllib.loads(f"x = {match.group()}")["x"])

    def node(self, table: _Table | Node) -> Node:
        if isinstance(table, Node):
            return table
        line, column = self.place(table.at)
        if table.kind == "array":
            return Node("array", line, column, items=tuple(self.node(item) for item in table.items))
        entries = tuple(
            (Node("string", *self.place(at), name), self.node(value)) for name, (at, value) in table.entries.items()
        )
        return Node("object", line, column, entries=entries)

    def blank(self) -> None:
        match = _BLANK.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def accept(self, char: str) -> bool:
        if self.text.startswith(char, self.at):
            self.at += 1
            return True
        return False

    def place(self, at: int) -> tuple[int, int]:
        low, high = 0, len(self.lines)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.lines[middle] <= at else (low, middle)
        return low + 1, at - self.lines[low] + 1

    def error(self, problem: str) -> NodeError:
        return NodeError(problem, *self.place(self.at))
