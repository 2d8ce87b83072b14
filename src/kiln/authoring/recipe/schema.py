"""The JSON Schema of recipes, generated from their types: for editors, and for the answers of language models.

It takes every spelling that `read_recipe` takes, but cannot say all that it says: names of features are looked up, and
a private key is no SSH public key. What the schema refuses, `read_recipe` refuses, too.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Collection
from typing import Any, Final, Literal

from kiln.authoring.recipe import model
from kiln.authoring.recipe.assertions import VOCABULARY, AssertionType, ParamKind
from kiln.authoring.recipe.load import KIND
from kiln.authoring.recipe.rules import Rule
from kiln.authoring.recipe.spellings import SECTION, spellings
from kiln_wire.codec import camel

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID: Final = "urn:kiln:schema:recipe:v1"
_TEXT: Final[Schema] = {"type": "string"}
_SCALAR: Final[Schema] = {"type": ["string", "integer", "boolean"]}
_OPTIONS: Final[Schema] = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$"},
    "additionalProperties": {"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR}]},
}
_PARAM: Final[dict[ParamKind, Schema]] = {
    "text": {"type": "string", "minLength": 1},
    "integer": {"type": "integer"},
    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
    "texts": {"type": "array", "items": _TEXT},
}


def recipe_schema(features: Collection[str] = (), bases: Collection[str] = ()) -> Schema:
    """Return the schema; where *features* or *bases* are given, no other ids are taken."""
    schema = _object(model.Recipe)
    schema["properties"]["kind"] = {"const": KIND}
    definitions = {cls.__name__: _object(cls) for cls in _CLASSES}
    choice = definitions[model.FeatureChoice.__name__]
    name = {"enum": sorted(features)} if features else choice["properties"]["id"]
    choice["properties"]["id"] = name
    if bases:
        schema["properties"] |= {key: {"enum": sorted(bases)} for key in _keys(model.Recipe, "base_image")}
    return {
        "$schema": DIALECT,
        "$id": SCHEMA_ID,
        "title": "Recipe",
        **schema,
        "$defs": {"FeatureName": name, **definitions},
    }


_CLASSES: Final = (
    model.Assertion,
    model.CustomPackage,
    model.Desktop,
    model.Disk,
    model.ExtraRepository,
    model.FeatureChoice,
    model.Interface,
    model.Kernel,
    model.Networking,
    model.PackageOverride,
    model.RecipeTest,
    model.Security,
    model.ServiceConfig,
    model.StartupScript,
    model.User,
)
_REQUIRED: Final[dict[type, tuple[str, ...]]] = {
    model.Recipe: (),  # the settings may name the base, and the features make the name
    model.ExtraRepository: ("name", "mirror", "suite", "signed_by"),
}


def _object(cls: type) -> Schema:
    if cls is model.Assertion:
        return _assertion()
    hints = typing.get_type_hints(cls, include_extras=True)
    properties: Schema = {}
    for spelling, name in sorted(spellings(cls).items()):
        if name == "kind":
            continue
        inner, attribute = (model.Security, name.removeprefix(SECTION)) if name.startswith(SECTION) else (cls, name)
        hint = typing.get_type_hints(inner, include_extras=True)[attribute] if inner is not cls else hints[name]
        value = _FORMS.get((inner, attribute)) or _value(hint)
        for key in {spelling, camel(spelling), spelling.replace("_", "-")}:
            properties[key] = value
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": dict(sorted(properties.items()))}
    required = _REQUIRED.get(cls)
    if required is None:
        required = tuple(f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING)
    if required:
        schema["allOf"] = [{"anyOf": [{"required": [key]} for key in _keys(cls, name)]} for name in required]
    return _SHORT[cls](schema) if cls in _SHORT else schema


def _keys(cls: type, name: str) -> list[str]:
    written = [spelling for spelling, field in spellings(cls).items() if field == name]
    return sorted({key for text in written for key in (text, camel(text), text.replace("_", "-"))})


def _value(hint: Any) -> Schema:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _text(arguments[1])
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (typing.Union, types.UnionType):
        return _value(next(argument for argument in arguments if argument is not types.NoneType))
    if origin is tuple and arguments[1] is Ellipsis:
        return {"type": "array", "items": _value(arguments[0])}
    if dataclasses.is_dataclass(hint):
        return {"$ref": f"#/$defs/{typing.cast(type, hint).__name__}"}
    return {bool: {"type": "boolean"}, int: {"type": "integer"}}[hint]


def _text(rule: Rule) -> Schema:
    schema: Schema = {"type": "string", "description": f"{rule.what}: {rule.hint}" if rule.hint else rule.what}
    if rule.pattern:
        # ECMA 262, which JSON Schema refers to, has no `\Z`.
        schema["pattern"] = f"^(?:{rule.pattern})$".replace(r"\Z", "$")
    return schema


def _optional_text(schema: Schema) -> Schema:
    return {"anyOf": [{"const": ""}, schema]}


def _assertion() -> Schema:
    by_type = [_typed(entry) for entry in VOCABULARY.values()]
    bare = [name for name, entry in VOCABULARY.items() if not any(param.required for param in entry.params)]
    short = [{"type": "object", "additionalProperties": False, "maxProperties": 1, "minProperties": 1,
              "properties": {name: _params(entry) for name, entry in VOCABULARY.items()}}]  # fmt: skip
    return {"anyOf": [{"enum": sorted(bare)}, *short, *by_type]}


def _typed(entry: AssertionType) -> Schema:
    required = ["type", "params"] if any(param.required for param in entry.params) else ["type"]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {"type": {"const": entry.name}, "params": _params(entry)},
        "required": required,
    }


def _params(entry: AssertionType) -> Schema:
    return {
        "type": "object",
        "description": entry.meaning,
        "additionalProperties": False,
        "properties": {param.name: _PARAM[param.kind] for param in entry.params},
        "required": [param.name for param in entry.params if param.required],
    }


def _feature(schema: Schema) -> Schema:
    name = {"$ref": "#/$defs/FeatureName"}
    by_name = {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "propertyNames": {"allOf": [name, {"not": {"enum": ["id", "options"]}}]},
        "additionalProperties": {"anyOf": [_OPTIONS, {"type": "null"}]},
    }
    return {"anyOf": [name, schema, by_name], "properties": schema["properties"]}


_SHORT: Final[dict[type, Callable[[Schema], Schema]]] = {
    model.FeatureChoice: _feature,
    model.ServiceConfig: lambda schema: {"anyOf": [_TEXT, schema]},
    model.User: lambda schema: {"anyOf": [_TEXT, schema]},
}
_SECRET: Final[Schema] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["secret"],
    "properties": {"secret": _value(typing.get_type_hints(model.User, include_extras=True)["password_secret"])},
}


def _optionals() -> dict[tuple[type, str], Schema]:
    """Every text with an empty default may be empty: nothing is said then."""
    forms: dict[tuple[type, str], Schema] = {}
    for cls in (model.Recipe, *_CLASSES):
        hints = typing.get_type_hints(cls, include_extras=True)
        for field in dataclasses.fields(cls):
            text = typing.get_origin(hints[field.name]) is typing.Annotated
            if text and field.default is not dataclasses.MISSING:
                forms[cls, field.name] = _optional_text(_value(hints[field.name]))
    return forms


_FORMS: Final[dict[tuple[type, str], Schema]] = {
    **_optionals(),
    (model.Recipe, "name"): _optional_text(_value(typing.get_type_hints(model.Recipe, include_extras=True)["name"])),
    (model.Recipe, "desktop"): {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Desktop"}]},
    (model.FeatureChoice, "options"): _OPTIONS,
    (model.ServiceConfig, "config"): _OPTIONS,
    (model.User, "password_hash"): {"anyOf": [_optionals()[model.User, "password_hash"], _SECRET]},
    (model.Networking, "firewall_ports"): {
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": "^[1-9][0-9]{0,4}(?:/(?:tcp|udp))?$"},
            ]
        },
    },
    (model.Disk, "size_bytes"): {
        "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^ *[0-9]"}],
        "description": "bytes, or a text such as `10G`",
    },
    (model.RecipeTest, "assertions"): {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/Assertion"}},
}
