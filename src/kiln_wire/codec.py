"""Frozen dataclasses to JSON documents and back, strictly.

Field names become camelCase. `tuple[T, ...]` is an array, `tuple[tuple[str, X], ...]` is an object (sorted by
key, so that a frozen value can hold a mapping), `Mapping[str, T]` is an object in its own order, `Digest` is its text.
Reading refuses unknown and missing keys and wrong types, and names the place as a path such as
`$.trees[0].packages[3].size`.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import types
import typing
from typing import Any, Literal, TypeVar, Union

from kiln_wire.digest import Digest, DigestError

T = TypeVar("T")


class DocumentError(ValueError):
    """A document does not have the form of its type; *path* says where."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path = path
        self.problem = problem


def encode(value: object) -> Any:
    """Return *value* (a dataclass, a tuple of them, or a JSON value) as plain JSON data."""
    if isinstance(value, Digest):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        result = {}
        for name, key, hint in _fields(type(value)):
            item = getattr(value, name)
            result[key] = dict(_pairs(item)) if _is_mapping(hint) else encode(item)
        return result
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return value


def decode(cls: type[T], data: object, path: str = "$") -> T:
    """Read *data* as a *cls*. Raises DocumentError."""
    return typing.cast(T, _decode(cls, data, path))


def freeze(value: object) -> object:
    """Return a JSON value with arrays as tuples and objects as sorted tuples of pairs, so that it can be compared."""
    if isinstance(value, dict):
        return tuple((key, freeze(value[key])) for key in sorted(value))
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


def camel(name: str) -> str:
    """Return a snake_case name in camelCase."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def _pairs(item: Any) -> list[tuple[str, Any]]:
    return [(key, encode(value)) for key, value in sorted(item)]


def _is_mapping(hint: object) -> bool:
    """Whether *hint* is `tuple[tuple[str, X], ...]`."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is not tuple or len(arguments) != 2 or arguments[1] is not Ellipsis:
        return False
    inner = typing.get_args(arguments[0])
    return typing.get_origin(arguments[0]) is tuple and len(inner) == 2 and inner[0] is str and inner[1] is not Ellipsis


@functools.cache
def _fields(cls: type) -> tuple[tuple[str, str, Any], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, camel(field.name), hints[field.name]) for field in dataclasses.fields(cls))


def _decode(hint: Any, data: Any, path: str) -> Any:
    if hint is object or hint is Any:
        return data
    if _is_mapping(hint):
        return _decode_mapping(hint, data, path)
    origin = typing.get_origin(hint)
    if origin is Literal:
        if data not in typing.get_args(hint):
            raise DocumentError(path, f"{data!r} is not one of {', '.join(map(repr, typing.get_args(hint)))}")
        return data
    if origin in (Union, types.UnionType):
        return _decode_optional(hint, data, path)
    if origin is tuple:
        if not isinstance(data, list):
            raise DocumentError(path, f"expected an array, got {_name(data)}")
        item = typing.get_args(hint)[0]
        return tuple(_decode(item, entry, f"{path}[{index}]") for index, entry in enumerate(data))
    if origin is collections.abc.Mapping:
        if not isinstance(data, dict):
            raise DocumentError(path, f"expected an object, got {_name(data)}")
        inner = typing.get_args(hint)[1]
        return {key: _decode(inner, value, f"{path}.{key}") for key, value in data.items()}
    if hint is Digest:
        return _decode_digest(data, path)
    if dataclasses.is_dataclass(hint):
        return _decode_dataclass(typing.cast(type, hint), data, path)
    return _decode_scalar(hint, data, path)


def _decode_mapping(hint: Any, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise DocumentError(path, f"expected an object, got {_name(data)}")
    inner = typing.get_args(typing.get_args(hint)[0])[1]
    return tuple((key, _decode(inner, data[key], f"{path}.{key}")) for key in sorted(data))


def _decode_optional(hint: Any, data: Any, path: str) -> Any:
    others = [argument for argument in typing.get_args(hint) if argument is not types.NoneType]
    if data is None:
        return None
    if len(others) != 1:
        raise TypeError(f"{hint} is not an optional type")
    return _decode(others[0], data, path)


def _decode_digest(data: Any, path: str) -> Digest:
    if not isinstance(data, str):
        raise DocumentError(path, f"expected a digest, got {_name(data)}")
    try:
        return Digest.parse(data)
    except DigestError as error:
        raise DocumentError(path, str(error)) from None


def _decode_dataclass(cls: type, data: Any, path: str) -> Any:
    if not isinstance(data, dict):
        raise DocumentError(path, f"expected an object, got {_name(data)}")
    known = {key: (name, hint) for name, key, hint in _fields(cls)}
    for key in data:
        if key not in known:
            raise DocumentError(f"{path}.{key}", "unknown key")
    required = {
        field.name
        for field in dataclasses.fields(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    values = {}
    for key, (name, hint) in known.items():
        if key in data:
            values[name] = _decode(hint, data[key], f"{path}.{key}")
        elif name in required:
            raise DocumentError(f"{path}.{key}", "missing")
    return cls(**values)


def _decode_scalar(hint: Any, data: Any, path: str) -> Any:
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if not isinstance(data, hint) or (isinstance(data, bool) and hint is not bool):
        raise DocumentError(path, f"expected {hint.__name__}, got {_name(data)}")
    return data


def _name(data: object) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(data), "null")
