"""Reading of nodes into plain values. What is wrong is noted as a problem and read as None, and reading goes on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from kiln.authoring.recipe.nodes import KIND_NAMES, Kind, Node
from kiln.authoring.recipe.problems import Problem, Problems, closest, did_you_mean
from kiln.authoring.recipe.rules import Rule
from kiln.errors import Domain

Plain = str | int | bool | tuple[str | int | bool, ...]
"""What an option or a parameter may be: text, an integer, a boolean, or a list of them."""

_HUMP: Final = re.compile(r"(?<=[a-z0-9])[A-Z]")
_SECRET_KEYS: Final = re.compile(
    r"(?:^|_)(?:password|passwd|passphrase|secret|token|api_key|private_key|credentials?)(?:$|_)"
)
_NOT_SECRET: Final = frozenset(("password_hash", "password_authentication", "refuse_passwords"))
MAX_INTEGER: Final = 2**53 - 1  # kiln_wire.canonical: larger integers have no canonical form


def snake(key: str) -> str:
    """Return a key in snake_case, whichever way it was written."""
    return _HUMP.sub(lambda match: "_" + match.group().lower(), key).replace("-", "_")


@dataclass(frozen=True, slots=True)
class Value:
    """A node at a path of a document."""

    node: Node
    path: str
    problems: Problems

    def problem(self, reason: str, message: str, hint: str = "", domain: Domain = Domain.RECIPE) -> None:
        """Note a problem at this value."""
        self.problems.add(Problem(reason, message, self.node.line, self.node.column, self.path, hint, domain))

    def text(self, rule: Rule) -> str | None:
        """Read a text that follows *rule*."""
        if self.node.kind != "string":
            hint = "write it in quotes" if self.node.kind in ("integer", "number", "boolean") else ""
            self._wrong_kind("text", hint)
            return None
        text = str(self.node.scalar)
        if not rule.accepts(text):
            if "PRIVATE KEY" in text:
                self.problem("plaintext-secret", "a private key must not be in a recipe", "give the public key")
            else:
                self.problem("bad-value", f"{shown(text)} is not {rule.what}", rule.hint)
            return None
        return text

    def choice(self, choices: tuple[str, ...]) -> str | None:
        """Read one of *choices*."""
        if self.node.kind != "string":
            self._wrong_kind("text")
            return None
        text = str(self.node.scalar)
        if text not in choices:
            listed = ", ".join(f"`{choice}`" for choice in choices)
            hint = did_you_mean(text, choices)
            self.problem("bad-value", f"{shown(text)} is not one of {listed}", hint)
            return None
        return text

    def boolean(self) -> bool | None:
        """Read `true` or `false`."""
        if self.node.kind != "boolean":
            self._wrong_kind("a boolean", "write `true` or `false`")
            return None
        return bool(self.node.scalar)

    def array(self) -> list[Value]:
        """Read a list."""
        if self.node.kind != "array":
            self._wrong_kind("a list")
            return []
        return [Value(item, f"{self.path}[{index}]", self.problems) for index, item in enumerate(self.node.items)]

    def texts(self, rule: Rule) -> tuple[str, ...]:
        """Read a list of texts that follow *rule*, none of them twice."""
        result: list[str] = []
        for item in self.array():
            text = item.text(rule)
            if text is not None and text in result:
                item.problem("duplicate-value", f"{shown(text)} stands twice in the list")
            elif text is not None:
                result.append(text)
        return tuple(result)

    def members(self) -> list[tuple[str, Value]]:
        """Read an object with keys of any name, as written; a key that stands twice is a problem."""
        if self.node.kind != "object":
            self._wrong_kind("an object")
            return []
        result: dict[str, Value] = {}
        for key, node in self.node.entries:
            name = str(key.scalar)
            at_key = Value(key, self._below(name), self.problems)
            if key.kind != "string":
                at_key.problem("wrong-type", f"a key must be text, not {KIND_NAMES[key.kind]}", "write it in quotes")
            elif name in result:
                at_key.problem("duplicate-key", f"the key {shown(name)} stands twice")
            else:
                result[name] = Value(node, self._below(name), self.problems)
        return list(result.items())

    def fields(self, known: Mapping[str, str]) -> dict[str, Value]:
        """Read an object with the keys of *known* (spelling in snake_case -> name of the field), each at most once."""
        if self.node.kind != "object":
            self._wrong_kind("an object")
            return {}
        result: dict[str, Value] = {}
        written: dict[str, str] = {}
        for key, node in self.node.entries:
            raw = str(key.scalar)
            at_key = Value(key, self._below(raw), self.problems)
            name = known.get(snake(raw)) if key.kind == "string" else None
            if name is None:
                _unknown_key(at_key, raw, known)
            elif name in result:
                said = f"the key `{raw}` stands twice"
                if written[name] != raw:
                    said = f"`{written[name]}` and `{raw}` say the same thing"
                at_key.problem("duplicate-key", said, "keep one of them")
            else:
                result[name] = Value(node, self._below(raw), self.problems)
                written[name] = raw
        return result

    def plain(self) -> Plain | None:
        """Read the value of an option or of a parameter."""
        node = self.node
        if node.kind == "array":
            items = [item.scalar() for item in self.array()]
            return tuple(item for item in items if item is not None)
        return self.scalar()

    def scalar(self) -> str | int | bool | None:
        """Read text of one or more lines, an integer or a boolean."""
        node = self.node
        if node.kind == "number":
            self.problem("wrong-type", "numbers with a fraction are not supported", "write it as text")
            return None
        if node.kind not in ("string", "integer", "boolean") or node.scalar is None or isinstance(node.scalar, float):
            self._wrong_kind("text, an integer or a boolean")
            return None
        if isinstance(node.scalar, int) and abs(node.scalar) > MAX_INTEGER:
            self.problem("bad-value", f"{node.scalar} is too large")
            return None
        if isinstance(node.scalar, str) and "\0" in node.scalar:
            self.problem("bad-value", "a text must not hold a null character")
            return None
        return node.scalar

    @property
    def kind(self) -> Kind:
        """The kind of the node."""
        return self.node.kind

    def _below(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _wrong_kind(self, expected: str, hint: str = "") -> None:
        self.problem("wrong-type", f"expected {expected}, got {KIND_NAMES[self.node.kind]}", hint)


def looks_secret(key: str) -> bool:
    """Whether a key names something that must not be written in a recipe."""
    name = snake(key)
    return name not in _NOT_SECRET and _SECRET_KEYS.search(name) is not None


def shown(text: str) -> str:
    """Return *text* as a message may show it: quoted, escaped, and cut where it is long."""
    cut = text if len(text) <= 60 else text[:57] + "..."
    return repr(cut)


def _unknown_key(at_key: Value, raw: str, known: Mapping[str, str]) -> None:
    if looks_secret(raw):
        at_key.problem(
            "plaintext-secret",
            f"{shown(raw)} looks like a secret, and a recipe must not hold one",
            "use `ssh_keys`, or `password_hash` made with `mkpasswd --method=yescrypt`",
        )
        return
    candidate = closest(snake(raw), known)
    hint = f"did you mean `{candidate}`?" if candidate else f"known keys: {', '.join(sorted(set(known.values())))}"
    at_key.problem("unknown-key", f"unknown key {shown(raw)}", hint)
