"""JSON and YAML text as nodes that know where they were written.

JSON is RFC 8259. YAML is read with the core schema of YAML 1.2 (section 10.3.2): `no`, `22:22` and `2024-01-01` are
text, only `true` and `false` are booleans. Anchors, tags and merge keys are refused, because two readers disagree about
them; so is more than one document.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import yaml

MAX_BYTES: Final = 1024 * 1024  # a recipe of a thousand packages has 30 kB; the reader must not be a way to fill memory
MAX_DEPTH: Final = 32

Kind = Literal["null", "boolean", "integer", "number", "string", "array", "object"]

KIND_NAMES: Final[dict[str, str]] = {
    "null": "nothing",
    "boolean": "a boolean",
    "integer": "an integer",
    "number": "a number with a fraction",
    "string": "text",
    "array": "a list",
    "object": "an object",
}


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document; *line* and *column* count from 1, columns in characters."""

    kind: Kind
    line: int
    column: int
    scalar: str | int | float | bool | None = None
    items: tuple[Node, ...] = ()
    entries: tuple[tuple[Node, Node], ...] = ()


class NodeError(ValueError):
    """The text is not a document of its format."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(f"{line}:{column}: {problem}")
        self.problem = problem
        self.line = line
        self.column = column


def read_nodes(data: bytes, *, is_json: bool | None = None) -> Node:
    """Read a JSON or YAML document; without *is_json*, text that starts with `{` or `[` is JSON. Raises NodeError."""
    if len(data) > MAX_BYTES:
        raise NodeError(f"the file has {len(data)} bytes, more than the limit of {MAX_BYTES}", 1, 1)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NodeError(f"not UTF-8 at byte {error.start}", data[: error.start].count(b"\n") + 1, 1) from None
    if is_json is None:
        is_json = text.lstrip()[:1] in ("{", "[")
    return _Json(text).document() if is_json else _yaml(text)


# ---------------------------------------------------------------------------------------------------------------- JSON

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][-+]?[0-9]+)?")
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_WORDS: Final[tuple[tuple[str, Kind, bool | None], ...]] = (
    ("true", "boolean", True),
    ("false", "boolean", False),
    ("null", "null", None),
)
MAX_DIGITS: Final = 16  # of 2**53 - 1, the largest integer of a canonical document; `int` of a long text is slow


class _Json:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def document(self) -> Node:
        node = self.value(0)
        self.space()
        if self.at != len(self.text):
            raise self.error("there is text after the end of the document")
        return node

    def value(self, depth: int) -> Node:
        self.space()
        if depth > MAX_DEPTH:
            raise self.error(f"nested deeper than {MAX_DEPTH} levels")
        line, column = self.place()
        char = self.text[self.at : self.at + 1]
        if char == "{":
            return Node("object", line, column, entries=tuple(self.members(depth)))
        if char == "[":
            return Node("array", line, column, items=tuple(self.elements(depth)))
        if char == '"':
            return self.string()
        for word, kind, scalar in _WORDS:
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return Node(kind, line, column, scalar)
        return self.number(line, column)

    def members(self, depth: int) -> Iterator[tuple[Node, Node]]:
        self.at += 1
        self.space()
        if self.accept("}"):
            return
        while True:
            self.space()
            if self.text[self.at : self.at + 1] != '"':
                raise self.error("expected a key in double quotes")
            key = self.string()
            self.space()
            if not self.accept(":"):
                raise self.error("expected `:` after the key")
            yield key, self.value(depth + 1)
            self.space()
            if self.accept("}"):
                return
            if not self.accept(","):
                raise self.error("expected `,` or `}`")

    def elements(self, depth: int) -> Iterator[Node]:
        self.at += 1
        self.space()
        if self.accept("]"):
            return
        while True:
            yield self.value(depth + 1)
            self.space()
            if self.accept("]"):
                return
            if not self.accept(","):
                raise self.error("expected `,` or `]`")

    def string(self) -> Node:
        line, column = self.place()
        match = _STRING.match(self.text, self.at)
        if match is None:
            raise self.error("a text that does not end, or holds a control character or an unknown escape")
        self.at = match.end()
        value: str = json.loads(match.group())
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise NodeError("a text with half of a surrogate pair", line, column) from None
        return Node("string", line, column, value)

    def number(self, line: int, column: int) -> Node:
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            raise self.error("expected a value")
        self.at = match.end()
        return _number_node(match.group(), bool(match["fraction"] or match["exponent"]), line, column)

    def space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def accept(self, char: str) -> bool:
        if self.text.startswith(char, self.at):
            self.at += 1
            return True
        return False

    def place(self) -> tuple[int, int]:
        low, high = 0, len(self.lines)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.lines[middle] <= self.at else (low, middle)
        return low + 1, self.at - self.lines[low] + 1

    def error(self, problem: str) -> NodeError:
        return NodeError(problem, *self.place())


def _number_node(text: str, fraction: bool, line: int, column: int) -> Node:
    if fraction:
        return Node("number", line, column, float(text))
    if len(text.lstrip("-")) > MAX_DIGITS:
        raise NodeError("an integer with more than 16 digits", line, column)
    return Node("integer", line, column, int(text))


# ---------------------------------------------------------------------------------------------------------------- YAML

_YAML_INTEGER: Final = re.compile(r"[-+]?[0-9]+")
_YAML_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_YAML_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_YAML_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))


def _yaml(text: str) -> Node:
    # Events, not PyYAML's composer: the parser keeps its own stack, so depth can be limited before anything recurses.
    stack: list[tuple[Kind, int, int, list[Node]]] = []
    root: Node | None = None
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            line, column = _place(event.start_mark)
            done: Node | None = None
            match event:
                case yaml.AliasEvent():
                    raise NodeError("anchors and aliases are not supported; write the value out", line, column)
                case yaml.DocumentStartEvent() if root is not None:
                    raise NodeError("there is a second document in the file", line, column)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    _refuse_extras(event.anchor, event.tag, line, column)
                    if len(stack) >= MAX_DEPTH:
                        raise NodeError(f"nested deeper than {MAX_DEPTH} levels", line, column)
                    kind: Kind = "object" if isinstance(event, yaml.MappingStartEvent) else "array"
                    stack.append((kind, line, column, []))
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    done = _container(*stack.pop())
                case yaml.ScalarEvent():
                    _refuse_extras(event.anchor, event.tag, line, column)
                    done = _scalar(event.value, event.style, line, column)
            if done is not None and stack:
                stack[-1][3].append(done)
            elif done is not None:
                root = done
    except yaml.MarkedYAMLError as error:
        raise NodeError(error.problem or "not YAML", *_place(error.problem_mark or error.context_mark)) from None
    except yaml.YAMLError as error:
        raise NodeError(str(error).splitlines()[0], 1, 1) from None
    return root if root is not None else Node("null", 1, 1)


class _Mark(Protocol):
    line: int
    column: int


def _place(mark: _Mark | None) -> tuple[int, int]:
    return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)


def _refuse_extras(anchor: str | None, tag: str | None, line: int, column: int) -> None:
    if anchor is not None:
        raise NodeError("anchors and aliases are not supported; write the value out", line, column)
    if tag is not None:
        raise NodeError(f"the tag {tag!r} is not supported", line, column)


def _container(kind: Kind, line: int, column: int, children: list[Node]) -> Node:
    if kind == "array":
        return Node("array", line, column, items=tuple(children))
    return Node("object", line, column, entries=tuple(zip(children[::2], children[1::2], strict=True)))


def _scalar(value: str, style: str | None, line: int, column: int) -> Node:
    if style not in (None, ""):
        return Node("string", line, column, value)
    if value in _YAML_NULLS:
        return Node("null", line, column)
    if value in _YAML_BOOLEANS:
        return Node("boolean", line, column, _YAML_BOOLEANS[value])
    if _YAML_INTEGER.fullmatch(value):
        return _number_node(value.lstrip("+"), False, line, column)
    if _YAML_FLOAT.fullmatch(value):
        return _number_node(value, True, line, column)
    return Node("string", line, column, value)
