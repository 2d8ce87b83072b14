"""Writes docs/stages.md from the descriptions in libdir (`*.meta.json`): run `python tools/stages_doc.py`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs/stages.md"
FOLDERS: Final = (
    ("Stages", "stages", "A stage is a program that changes a tree."),
    (
        "Sources",
        "sources",
        "A source says where files come from. They are fetched before the build and checked; digests must be SHA-2.",
    ),
    ("Inputs", "inputs", "An input shows files or a tree to a stage, read-only."),
    ("Devices", "devices", "A device is a block device for a stage; it goes away with the stage."),
    ("Mounts", "mounts", "A mount is a file system for a stage; it is unmounted when the stage has ended."),
    (
        "Assemblers",
        "assemblers",
        "An assembler makes something of a finished tree, in manifests of format 1 and in the hybrid.",
    ),
)
HEAD: Final = """\
# Stages, sources, inputs, devices, mounts and assemblers

Written by `tools/stages_doc.py` from the descriptions in `libdir`; do not edit. Names that begin with `org.osbuild.`
take osbuild's options, so that its manifests run unchanged; the others are Kiln's own. The programs that a stage starts
come from its build root, or from the tree itself where the description says so.

In the tables, `a.b` is the key `b` of the object `a`, `a[]` an entry of the list `a`, and `a.<key>` an entry of an
object with keys of any name. Options in bold are required.
"""
FREE: Final = "any"
COLUMNS: Final = 120
UUID: Final = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"


def render(libdir: Path) -> str:
    """Return the page for the modules of *libdir*."""
    return "\n".join([HEAD, *(line for folder in FOLDERS for line in _folder(libdir, *folder))]) + "\n"


def _folder(libdir: Path, title: str, folder: str, about: str) -> Iterator[str]:
    yield from (f"## {title}", "", about, "")
    blocks = []
    for path in sorted((libdir / folder).glob("*.meta.json")):
        blocks.append("\n".join(_module(path.name.removesuffix(".meta.json"), json.loads(path.read_bytes()), folder)))
    yield "\n\n".join(blocks)
    yield ""


def _module(name: str, meta: Mapping[str, Any], folder: str) -> Iterator[str]:
    about = f"{meta['summary']}. {' '.join(meta['description'])}"
    # The same name can stand for a stage, a mount and an assembler; headings of a page are unique.
    heading = f"{name} ({folder.removesuffix('s')})" if folder in ("devices", "mounts", "assemblers") else name
    yield from (f"### {heading}", "", *textwrap.wrap(about, COLUMNS, break_on_hyphens=False, break_long_words=False))
    if meta.get("capabilities"):
        yield from ("", f"Capabilities beyond the usual ones: {', '.join(meta['capabilities'])}.")
    schema = _resolved(meta.get("schema_2") or {"options": meta["schema"]})
    if folder != "stages":
        yield from _table("key", _rows(_resolved(meta.get("schema_2") or meta["schema"]), ""))
        return
    inputs = schema.get("inputs", {}).get("properties", {})
    if inputs:
        yield from ("", f"Inputs: {', '.join(f'`{entry}`' for entry in inputs)}.")
    if "options" in schema:
        found = list(_rows(schema["options"], ""))
        yield from _table("option", iter(found)) if found else iter(("", "It has no options of its own."))


def _resolved(schema: Mapping[str, Any]) -> Any:
    """Return *schema* with its own definitions in the place of the references to them."""
    definitions = schema.get("definitions") or schema.get("options", {}).get("definitions", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, list):
            return [resolve(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value:
            return resolve(definitions[value["$ref"].removeprefix("#/definitions/")])
        return {key: resolve(item) for key, item in value.items() if key != "definitions"}

    return resolve(dict(schema))


def _table(what: str, entries: Iterator[tuple[str, str, str]]) -> Iterator[str]:
    yield from ("", f"| {what} | value | meaning |", "|---|---|---|")
    yield from (f"| {path} | {value} | {meaning} |" for path, value, meaning in entries)


def _rows(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, str]]:
    required = schema.get("required", ())
    for name, value in schema.get("properties", {}).items():
        yield from _row(value, f"{prefix}{name}", required=name in required)
    for value in schema.get("patternProperties", {}).values():
        yield from _row(value, f"{prefix}<key>", required=False)


def _row(schema: Mapping[str, Any], path: str, *, required: bool) -> Iterator[tuple[str, str, str]]:
    name = f"**`{path}`**" if required else f"`{path}`"
    yield name, _value(schema), _escaped(schema.get("description", ""))
    yield from dict.fromkeys(row for variant in _variants(schema) for row in _below(variant, path))


def _below(schema: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    if schema.get("type") == "array":
        yield from _rows(schema.get("items", {}), f"{path}[].")
        return
    yield from _rows(schema, f"{path}.")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _rows(schema["additionalProperties"], f"{path}.<key>.")


def _variants(schema: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    if "type" in schema:  # variants beside a type only restrict it
        return (schema,)
    return schema.get("oneOf") or schema.get("anyOf") or (schema,)


def _value(schema: Mapping[str, Any]) -> str:
    """Return what a value may be: its type and limits."""
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(choice).strip(chr(34))}`" for choice in schema["enum"])
    variants = _variants(schema)
    if len(variants) > 1:
        return " or ".join(dict.fromkeys(_value(variant) for variant in variants))
    kinds = schema.get("type", FREE)
    text = kinds if isinstance(kinds, str) else " or ".join(kinds)
    if text == "array":
        inner = _value(schema.get("items", {}))
        return f"array of {inner}" if inner != FREE else "array"
    limits = [
        f"{word} {schema[key]}"
        for key, word in (("minimum", "from"), ("maximum", "to"), ("multipleOf", "a multiple of"))
        if key in schema
    ]
    if schema.get("pattern") == UUID:
        return "UUID"
    if "pattern" in schema:
        limits.append(f"`{_escaped(schema['pattern'])}`")
    return ", ".join([text, *limits])


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(render(ROOT / "libdir"), encoding="utf-8")
