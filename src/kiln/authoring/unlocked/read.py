"""Reading an unlocked manifest: its JSON with places, and everything that its schemas say."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from kiln.authoring.recipe.nodes import Node, NodeError, read_nodes
from kiln.authoring.recipe.problems import closest
from kiln.authoring.unlocked.model import (
    APT_STAGES,
    BASE_STAGES,
    OSTREE_STAGE,
    Finding,
    Json,
    Path,
    Unlocked,
    refuse,
    stages,
)
from kiln.engine.manifest.formats import normalise
from kiln.engine.manifest.modules import Modules
from kiln.engine.manifest.validate import InvalidManifestError, validate
from kiln.errors import Domain, ExitStatus, KilnError, Place

NOTHING: Final[Json] = {"type": "org.osbuild.noop"}
"""Stands in an unlocked stage's place while the rest of the manifest is checked."""
_NAME: Final[Json] = {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9+.:_-]*$"}
_NAMES: Final[Json] = {"type": "array", "items": _NAME}
_BASE_SCHEMA: Final[Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["suite"],
    "properties": {
        "suite": _NAME,
        "mirror": {"type": "string", "minLength": 1},
        "variant": {"enum": ["minbase", "standard", "buildd"]},
        "arch": {"enum": ["amd64"]},
        "components": {**_NAMES, "minItems": 1},
        "include": _NAMES,
        "exclude": _NAMES,
    },
}
_APT_SCHEMA: Final[Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["packages"],
    "properties": {"packages": _NAMES, "exclude": _NAMES, "recommends": {"type": "boolean"}},
}
_OSTREE_SCHEMA: Final[Json] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["repository"],
    "properties": {
        "repository": {"type": "string", "pattern": r"^(/(?!\.{1,2}(/|$))[^/]+)+$"},
        "branch": {"type": "string", "minLength": 1},
    },
}
SCHEMAS: Final[Mapping[str, Json]] = {
    **dict.fromkeys(BASE_STAGES, _BASE_SCHEMA),
    **dict.fromkeys(APT_STAGES, _APT_SCHEMA),
    OSTREE_STAGE: _OSTREE_SCHEMA,
}


def looks_like_manifest(data: bytes) -> bool:
    """Whether a file's content is a manifest and not a recipe: a JSON object with pipelines."""
    if b'"pipelines"' not in data:
        return False
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and "pipelines" in document


def is_unlocked(document: Json) -> bool:
    """Whether a stage of the manifest, which may be of any form, names packages without pinning them."""
    found = [
        stage
        for pipeline in _list(document, "pipelines")
        for stage in _list(pipeline, "stages")
        if isinstance(stage, dict) and (stage.get("type") or stage.get("name")) in (*BASE_STAGES, *APT_STAGES)
    ]
    return any("inputs" not in stage for stage in found)


def _list(value: Any, key: str) -> list[Any]:
    """Return a list out of an object, or nothing where a document is of another form."""
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, list) else []


def read_manifest(data: bytes, file: str, modules: Modules) -> Unlocked:
    """Read a manifest of format 2. Raises KilnError(MANIFEST): `invalid-manifest` with every finding."""
    try:
        node = read_nodes(data, is_json=True)
    except NodeError as error:
        raise KilnError(
            Domain.MANIFEST,
            "invalid-manifest",
            error.problem,
            place=Place(file, error.line, error.column),
            exit_status=ExitStatus.USAGE,
        ) from None
    document = normalise(_plain(node))
    unlocked = Unlocked(dict(document), node, file)
    findings = [*_schema_findings(unlocked.document, modules), *_unlocked_findings(unlocked.document)]
    if findings:
        raise refuse(unlocked, findings, fixing=False)
    return unlocked


def _plain(node: Node) -> Any:
    if node.kind == "object":
        return {str(key.scalar): _plain(value) for key, value in node.entries}
    if node.kind == "array":
        return [_plain(item) for item in node.items]
    return node.scalar


def _schema_findings(document: Json, modules: Modules) -> Iterator[Finding]:
    try:
        validate(_without_unlocked(document), modules)
    except InvalidManifestError as error:
        for found in error.findings:
            yield _as_finding(tuple(found.path), found.message, modules)


def _as_finding(path: Path, message: str, modules: Modules) -> Finding:
    _, unknown, name = message.partition("could not find schema information for '")
    near = closest(name.rstrip("'"), [*_known_stages(modules), *SCHEMAS]) if unknown else ""
    advice = f"did you mean `{near}`?" if near else ""
    return Finding("invalid-manifest", path, "what the schema of this place allows", message, advice=advice)


def _known_stages(modules: Modules) -> list[str]:
    return [path.name.removesuffix(".meta.json") for path in (modules.libdir / "stages").glob("*.meta.json")]


def _unlocked_findings(document: Json) -> Iterator[Finding]:
    import jsonschema  # noqa: PLC0415 - 80 ms, and a manifest that was locked before does not need it

    if not isinstance(document.get("pipelines"), list):
        return
    for path, stage in stages(document, SCHEMAS):
        if "inputs" in stage:
            continue
        validator = jsonschema.Draft202012Validator(SCHEMAS[stage["type"]])
        for error in validator.iter_errors(stage.get("options", {})):
            where = (*path, "options", *error.absolute_path)
            yield Finding("invalid-manifest", where, f"what {stage['type']} takes", error.message)


def _without_unlocked(document: Json) -> Json:
    pipelines = document.get("pipelines")
    if not isinstance(pipelines, list):
        return document

    def stage(value: Any) -> Any:
        given = isinstance(value, Mapping) and value.get("type") in SCHEMAS and "inputs" not in value
        return NOTHING if given else value

    def pipeline(value: Any) -> Any:
        if not isinstance(value, Mapping) or not isinstance(value.get("stages"), list):
            return value
        return {**value, "stages": [stage(item) for item in value["stages"]]}

    return {**document, "pipelines": [pipeline(value) for value in pipelines]}
