"""Parameters of a manifest: `${name}` in its texts, without an external tool.

A manifest that declares `"parameters": {"size": "10G", "count": 3, "name": null}` gives each one a default, or null for
none. Only declared names and names that were defined for this run are replaced; any other `${...}`, as in a shell
script, is left alone, and `$${name}` always stands for the text `${name}`. A text that is nothing but one parameter
becomes the parameter's value, whatever its type.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kiln.engine.manifest.formats import refuse
from kiln.errors import Domain, ExitStatus, KilnError

PARAMETERS: Final = "parameters"
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_USE: Final = re.compile(rf"(\$?)\$\{{({NAME.pattern})\}}")


def parse_definitions(texts: Sequence[str]) -> dict[str, Any]:
    """Return the definitions of a command line: `name=text` or `name:=JSON`. Raises KilnError(MANIFEST, ...)."""
    definitions: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        typed = name.endswith(":")
        name = name.removesuffix(":")
        if not separator or not NAME.fullmatch(name):
            raise _bad(f"{text!r} is not a definition", "write name=value, or name:=value for a value in JSON")
        try:
            definitions[name] = json.loads(value) if typed else value
        except ValueError as error:
            raise _bad(f"the value of `{name}` is not JSON: {error}", "") from None
    return definitions


def fill(document: Any, definitions: Mapping[str, Any]) -> Any:
    """Return the manifest with its parameters replaced. Raises KilnError(MANIFEST, "invalid-manifest", ...)."""
    if not isinstance(document, Mapping) or (not definitions and PARAMETERS not in document):
        return document
    declared = document.get(PARAMETERS, {})
    if not isinstance(declared, Mapping) or not all(NAME.fullmatch(name) for name in declared):
        raise refuse(f".{PARAMETERS}", "parameters are an object of names and default values")
    values = {**declared, **{name: _like(declared.get(name), name, value) for name, value in definitions.items()}}
    used: set[str] = set()
    filled = _fill({key: value for key, value in document.items() if key != PARAMETERS}, values, used, "")
    unknown = definitions.keys() - declared.keys() - used
    if unknown:
        known = ", ".join(sorted(values.keys() - unknown)) or "none"
        raise _bad(f"the manifest has no parameter `{min(unknown)}`", f"parameters: {known}")
    return filled


def _like(default: Any, name: str, value: Any) -> Any:
    """Read a text from the command line as what the default is, where that is no text."""
    if not isinstance(value, str) or default is None or isinstance(default, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise _bad(f"the value of `{name}` must be JSON, as its default {json.dumps(default)} is", "") from None


def _fill(value: Any, values: Mapping[str, Any], used: set[str], path: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _fill(item, values, used, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, values, used, f"{path}[{index}]") for index, item in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    whole = _USE.fullmatch(value)
    if whole is not None and not whole[1] and whole[2] in values:
        return _value(whole[2], values, used, path)

    def replaced(match: re.Match[str]) -> str:
        escaped, name = match[1], match[2]
        if escaped:
            return match[0][1:]
        if name not in values:
            return match[0]
        found = _value(name, values, used, path)
        return found if isinstance(found, str) else json.dumps(found)

    return _USE.sub(replaced, value)


def _value(name: str, values: Mapping[str, Any], used: set[str], path: str) -> Any:
    used.add(name)
    if values[name] is None:
        raise refuse(path, f"the parameter `{name}` has no value", hint=f"give it with --define {name}=...")
    return values[name]


def _bad(problem: str, hint: str) -> KilnError:
    return KilnError(Domain.MANIFEST, "bad-definition", problem, hint=hint, exit_status=ExitStatus.USAGE)
