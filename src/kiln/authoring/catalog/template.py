"""The tiny templates of the catalogue: values in texts, and lines that depend on a value. Nothing is evaluated.

=====================  ===============================================================================
`Port {{ port }}`      a value: text, integer, `yes`/`no`, or a list joined by `, `
`{{ paths | words }}`  a list joined by spaces
`{{ url | json }}`     as JSON
`{{ if expose }}`      on a line of its own: the lines up to `{{ end }}` are kept if the value is there (not
                       false, 0 or empty); `{{ if not expose }}` for the contrary
`{{ each servers }}`   the lines up to `{{ end }}` once for each value of a list, which is `{{ item }}` in them,
                       and `{{ number }}` its number from 1
=====================  ===============================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

_VALUE: Final = re.compile(r"\{\{ (?P<name>[a-z][a-z0-9_]*)(?: \| (?P<filter>words|json|lines))? \}\}")
_OPEN: Final = re.compile(r"[ \t]*\{\{ (?P<kind>if|if not|each) (?P<name>[a-z][a-z0-9_]*) \}\}[ \t]*\n?")
_END: Final = re.compile(r"[ \t]*\{\{ end \}\}[ \t]*\n?")


class TemplateError(ValueError):
    """The template is wrong: an unknown name, an open `if`, or braces that mean nothing."""


def render(template: str, values: Mapping[str, object]) -> str:
    """Return *template* with *values* filled in. Raises TemplateError."""
    if "{{" not in template:
        return template
    kept: list[str] = []
    block: list[str] = []
    opened: tuple[str, object] | None = None
    for line in template.splitlines(keepends=True):
        if match := _OPEN.fullmatch(line):
            if opened is not None:
                raise TemplateError("a block inside a block is not supported")
            opened, block = (match["kind"], _value(match["name"], values)), []
        elif _END.fullmatch(line):
            if opened is None:
                raise TemplateError("`end` without a block")
            kept.append(_block("".join(block), *opened, values))
            opened = None
        elif opened is not None:
            block.append(line)
        else:
            kept.append(_fill(line, values))
    if opened is not None:
        raise TemplateError("a block without `end`")
    return "".join(kept)


def _block(text: str, kind: str, value: object, values: Mapping[str, object]) -> str:
    if kind == "each":
        if not isinstance(value, tuple):
            raise TemplateError("`each` needs a list")
        # Filled once even where the list is empty, so that a mistake in it is found.
        _fill(text, {**values, "item": "", "number": 0})
        return "".join(_fill(text, {**values, "item": item, "number": n}) for n, item in enumerate(value, 1))
    filled = _fill(text, values)
    return filled if bool(value) == (kind == "if") else ""


def _fill(text: str, values: Mapping[str, object]) -> str:
    rest = _VALUE.sub("", text)
    if "{{" in rest:
        raise TemplateError(f"not a template: {rest[rest.index('{{') :][:40]!r}")
    return _VALUE.sub(lambda match: _text(_value(match["name"], values), match["filter"]), text)


def _value(name: str, values: Mapping[str, object]) -> object:
    if name not in values:
        raise TemplateError(f"unknown name `{name}`")
    return values[name]


def _text(value: object, filter_name: str | None) -> str:
    if filter_name == "json":
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple):
        separator = {"words": " ", "lines": "\n"}.get(filter_name or "", ", ")
        return separator.join(str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
