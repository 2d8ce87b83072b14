"""What a libdir says about its programs: summary, capabilities and JSON Schemas, from `.meta.json` or from the source.

The same file is read once for each `Modules`; a program's own text is never run.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from kiln.engine.manifest.formats import Format

Kind = Literal["Stage", "Assembler", "Source", "Input", "Device", "Mount"]
FOLDERS: Final[Mapping[str, str]] = {
    "Stage": "stages",
    "Assembler": "assemblers",
    "Source": "sources",
    "Input": "inputs",
    "Device": "devices",
    "Mount": "mounts",
}
META_KEYS: Final = frozenset({"summary", "description", "capabilities", "schema", "schema_2"})

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Module:
    """A program of a libdir. *capabilities* are those that a stage needs beyond the usual ones."""

    kind: Kind
    name: str
    path: Path
    summary: str
    capabilities: frozenset[str]
    schema_1: Schema
    schema_2: Schema

    def validation_schema(self, version: Format = "2") -> dict[str, Any]:
        """Return the JSON Schema, draft 4, for this module's object in a manifest of that format."""
        if self.kind in ("Stage", "Assembler"):
            return self._stage_schema(version)
        own = dict((self.schema_2 if version == "2" else None) or self.schema_1)
        if self.kind == "Device":
            return {
                "title": f"{self.kind} {self.name}",
                "type": "object",
                "additionalProperties": True,
                "properties": {"type": {"enum": [self.name]}, "options": own},
            }
        if self.kind == "Mount":
            own["properties"] = {**own.get("properties", {}), "type": {"enum": [self.name]}}
        return own

    def _stage_schema(self, version: Format) -> dict[str, Any]:
        key = "type" if version == "2" else "name"
        properties = dict(self.schema_2) if self.schema_2 and version == "2" else {"options": dict(self.schema_1)}
        definitions = properties.pop("definitions", None)
        options = properties.get("options")
        if isinstance(options, Mapping) and "definitions" in options:
            definitions = {**options["definitions"], **(definitions or {})}
            properties["options"] = {key: value for key, value in options.items() if key != "definitions"}
        properties.setdefault("mounts", {"type": "array"})
        properties.setdefault("devices", {"type": "object", "additionalProperties": True})
        schema: dict[str, Any] = {
            "title": f"{self.kind} {self.name}",
            "type": "object",
            "additionalProperties": False,
            "properties": {key: {"enum": [self.name]}, **properties},
            "required": [key],
        }
        if definitions:
            # `#/definitions/x` inside a module is written as if the module's schema were the root.
            schema["definitions"] = definitions
        return schema


@dataclass(slots=True)
class Modules:
    """The programs of one libdir."""

    libdir: Path
    _known: dict[tuple[str, str], Module | None] = field(default_factory=dict)

    def find(self, kind: Kind, name: str) -> Module | None:
        """Return a module, or None where the libdir has none of that name or its description is not valid."""
        key = (kind, name)
        if key not in self._known:
            self._known[key] = self._read(kind, name)
        return self._known[key]

    def manifest_schema(self, version: Format = "2") -> Schema | None:
        """Return the schema of manifests of a format, or None if the libdir has none."""
        try:
            data = (self.libdir / f"schemas/osbuild{version}.json").read_bytes()
        except OSError:
            return None
        return _object(data)

    def description_files(self, kind: Kind, name: str) -> list[Path]:
        """Return the files that decide what `find` returns, to be digested by a cache."""
        path = self.libdir / FOLDERS[kind] / name
        return [path.with_name(f"{name}.meta.json"), path]

    def _read(self, kind: Kind, name: str) -> Module | None:
        if "/" in name or name in ("", ".", ".."):
            return None
        meta_path, path = self.description_files(kind, name)
        try:
            meta = _object(meta_path.read_bytes())
        except OSError:
            meta = _from_source(path)
        if meta is None or not _is_valid(meta):
            return None
        return Module(
            kind,
            name,
            path,
            meta["summary"],
            frozenset(meta.get("capabilities", ())),
            meta.get("schema") or {},
            meta.get("schema_2") or {},
        )


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _is_valid(meta: Mapping[str, Any]) -> bool:
    schemas = [meta[key] for key in ("schema", "schema_2") if key in meta]
    return (
        meta.keys() <= META_KEYS
        and isinstance(meta.get("summary"), str)
        and _strings(meta.get("description"))
        and _strings(meta.get("capabilities", []))
        and bool(schemas)
        and all(isinstance(schema, dict) for schema in schemas)
    )


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _from_source(path: Path) -> dict[str, Any] | None:
    """Read a description that is written in a Python program: SCHEMA, SCHEMA_2, CAPABILITIES and the docstring."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id in ("SCHEMA", "SCHEMA_2", "CAPABILITIES"):
                    try:
                        values[target.id] = ast.literal_eval(node.value)
                    except ValueError:
                        return None
    summary, _, description = (ast.get_docstring(tree) or "").partition("\n")
    try:
        # The constants hold the inside of a JSON object.
        schemas = {
            key: json.loads("{" + values[name] + "}")
            for key, name in (("schema", "SCHEMA"), ("schema_2", "SCHEMA_2"))
            if name in values
        }
    except (ValueError, TypeError):
        return None
    capabilities = sorted(values.get("CAPABILITIES", ()))
    # Without either constant, every option is allowed: an empty schema says so.
    meta = {"summary": summary, "description": description.splitlines(), "capabilities": capabilities}
    return {**meta, **(schemas or {"schema": {}})}
