"""The formats of manifests: which one a document has, and the spellings that people use made one.

Format 1 is `{"pipeline": {"build", "stages", "assembler"}, "sources"}` without a version, format 2 is
`{"version": "2", "pipelines": [...], "sources"}`. The hybrid is format 2 with `name` for a stage's `type` and an
`assembler` at the top, which makes something of the last pipeline's tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from kiln.errors import Domain, ExitStatus, KilnError, Place

Format = Literal["1", "2"]
FORMATS: Final = ("1", "2")
ASSEMBLER: Final = "assembler"
"""The pipeline that an assembler becomes, and its key in a manifest."""


def format_of(document: object) -> Format:
    """Return the format of a manifest. Raises KilnError(MANIFEST, "invalid-manifest" or "unsupported-format")."""
    if not isinstance(document, Mapping):
        raise refuse("", "the manifest is not a JSON object")
    version = document.get("version", "1")
    if version == "1":
        return "1"
    if version == "2":
        return "2"
    raise KilnError(
        Domain.MANIFEST,
        "unsupported-format",
        "Unsupported manifest format",
        detail=f"the version is {version!r}",
        hint='the format of a plan is "version": "2"',
        exit_status=ExitStatus.USAGE,
    )


def normalise(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a manifest of format 2 with `type` in every stage; other documents, and what is no stage, unchanged."""
    pipelines = document.get("pipelines")
    if document.get("version") != "2" or not isinstance(pipelines, list):
        return document
    if not any(_is_hybrid(stage) for pipeline in pipelines for stage in _stages(pipeline)):
        return document
    return {**document, "pipelines": [_pipeline(pipeline) for pipeline in pipelines]}


def refuse(path: str, problem: str, hint: str = "") -> KilnError:
    """Return the error for a manifest that cannot be loaded; *path* is as in `.pipelines[0].stages[1]`."""
    return KilnError(
        Domain.MANIFEST,
        "invalid-manifest",
        problem,
        place=Place("<manifest>", path=path),
        hint=hint,
        exit_status=ExitStatus.USAGE,
    )


def _pipeline(pipeline: Any) -> Any:
    if not _stages(pipeline):
        return pipeline
    return {**pipeline, "stages": [_stage(stage) if _is_hybrid(stage) else stage for stage in pipeline["stages"]]}


def _stages(pipeline: Any) -> list[Any]:
    stages = pipeline.get("stages") if isinstance(pipeline, Mapping) else None
    return stages if isinstance(stages, list) else []


def _is_hybrid(stage: Any) -> bool:
    return isinstance(stage, Mapping) and "name" in stage and "type" not in stage


def _stage(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": stage["name"], **{key: value for key, value in stage.items() if key != "name"}}
