"""Which documents the stages of `stage_documents` take, and that they say what each option means."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from stage_documents import DOCUMENTS

from kiln.engine.manifest.modules import Modules

LIBDIR: Final = Path(__file__).parents[2] / "libdir"


def validator(name: str) -> jsonschema.Draft4Validator:
    module = Modules(LIBDIR).find("Stage", name)
    assert module is not None
    schema = module.validation_schema()
    jsonschema.Draft4Validator.check_schema(schema)
    return jsonschema.Draft4Validator(schema)


def cases(index: int) -> list[Any]:
    return [
        pytest.param(name, document, id=f"{name.removeprefix('org.')}-{number}")
        for name, both in DOCUMENTS.items()
        for number, document in enumerate(both[index])
    ]


@pytest.mark.parametrize(("name", "document"), cases(0))
def test_good_documents_are_taken(name: str, document: dict[str, Any]) -> None:
    validator(name).validate({"type": name, **document})


@pytest.mark.parametrize(("name", "document"), cases(1))
def test_bad_documents_are_refused(name: str, document: dict[str, Any]) -> None:
    assert not validator(name).is_valid({"type": name, **document})


@pytest.mark.parametrize("name", DOCUMENTS)
def test_unknown_options_are_refused(name: str) -> None:
    document = DOCUMENTS[name][0][0]
    assert not validator(name).is_valid({"type": name, **document, "options": {**document["options"], "unknown": 1}})


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_stage_says_what_it_does_and_what_each_option_means(name: str) -> None:
    program = LIBDIR / "stages" / name
    meta = json.loads(program.with_name(f"{name}.meta.json").read_text(encoding="utf-8"))
    assert meta["summary"]
    assert meta["description"]
    assert os.access(program, os.X_OK)
    assert program.read_text(encoding="utf-8").startswith(f'#!/usr/bin/python3\n"""{meta["summary"]}.\n'.rstrip("\n."))
    undescribed = [path for path, schema in properties(meta["schema_2"]["options"]) if "description" not in schema]
    assert undescribed == []


def properties(schema: Any, path: str = "", above: frozenset[str] = frozenset()) -> Iterator[tuple[str, Any]]:
    """Yield each property of a schema, at any depth; rules about properties that stand *above* are none."""
    if not isinstance(schema, dict):
        return
    own = frozenset(schema.get("properties", {}))
    for name, inner in schema.get("properties", {}).items():
        if name not in above:
            yield f"{path}.{name}", inner
        yield from properties(inner, f"{path}.{name}")
    for name, inner in schema.get("patternProperties", {}).items():
        yield from properties(inner, f"{path}.{name}")
    for inner in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
        yield from properties(inner, path, own)
    yield from properties(schema.get("items"), f"{path}[]")
