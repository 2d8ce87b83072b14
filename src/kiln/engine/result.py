"""The documents that osbuild prints with `--json`, made from what the engine says: one form for each format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kiln.engine.execution.model import BuildResult, StageFailedError, StageRun
from kiln.engine.execution.sources import SourceFailedError, SourceReport
from kiln.engine.manifest.formats import ASSEMBLER
from kiln.engine.manifest.load_1 import TREE
from kiln.engine.manifest.model import Pipeline, Plan
from kiln.errors import Domain, KilnError


def success(plan: Plan, result: BuildResult) -> dict[str, Any]:
    """Return the document of a build that went well; the log has the stages that ran."""
    if plan.format == "1":
        return _format_1(plan, result.stages, None)
    return {
        "type": "result",
        "success": True,
        "metadata": {pipeline: dict(stages) for pipeline, stages in result.metadata.items()},
        "sources": {"success": True, **_sources(result.sources)},
        "log": _log(result.stages),
    }


def failure(error: KilnError, plan: Plan | None = None) -> dict[str, Any]:
    """Return the document of a build that an error has ended; *plan* is missing where it ended before."""
    if plan is not None and plan.format == "1" and isinstance(error, StageFailedError):
        return _format_1(plan, (*error.finished, error.run), error)
    document: dict[str, Any] = {"type": "error", "success": False, "error": _error(error)}
    if isinstance(error, StageFailedError):
        log = _log((*error.finished, error.run))
        failed: dict[str, Any] = {"success": False}
        if error.exception() is not None:
            failed["error"] = error.exception()
        log[error.run.pipeline][-1] |= failed
        return {**document, "sources": {"success": True, **_sources(error.sources)}, "log": log}
    items = {}
    if isinstance(error, SourceFailedError):
        failed_items = [{"checksum": checksum, "error": text} for checksum, text in error.failed.items()]
        items = {error.type: failed_items or [{"error": error.message}]}
    ended_before_sources = error.domain is not Domain.FETCH and not items
    return {**document, "sources": {"success": ended_before_sources, **items}, "log": {}}


def _error(error: KilnError) -> Mapping[str, Any]:
    if isinstance(error, StageFailedError):
        run = error.run
        stage = {"id": run.id, "type": run.type, "output": run.output, "error": error.exception()}
        return {"type": "org.osbuild.error.stage", "details": {"stage": stage}}
    if isinstance(error, SourceFailedError) or error.domain is Domain.FETCH:
        output = "\n".join(part for part in (error.message, error.detail) if part)
        type_ = error.type if isinstance(error, SourceFailedError) else error.reason
        return {"type": "org.osbuild.error.source", "details": {"source": {"type": type_, "output": output}}}
    return {"type": "org.kiln.error", "details": error.to_document()}


def _sources(report: SourceReport) -> dict[str, list[dict[str, Any]]]:
    return {
        type_: [{"cached": item.cached, "checksum": item.checksum} for item in items] for type_, items in report.items()
    }


def _log(runs: Iterable[StageRun]) -> dict[str, list[dict[str, Any]]]:
    log: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if not run.cached:
            log.setdefault(run.pipeline, []).append({"id": run.id, "type": run.type, "output": run.output})
    return log


def _format_1(plan: Plan, runs: Iterable[StageRun], error: StageFailedError | None) -> dict[str, Any]:
    """Return the nested result of format 1: a pipeline, the one that it was built in, and the assembler's."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        failed = error is not None and run is error.run
        if not run.cached:
            stages.setdefault(run.pipeline, []).append(
                {
                    "id": run.id,
                    "type": run.type,
                    "success": not failed,
                    "error": error.exception() if failed and error is not None else None,
                    "output": run.output,
                    "metadata": None if run.metadata is None else dict(run.metadata),
                }
            )
    tree = plan.pipeline(TREE)
    document: dict[str, Any] = {"success": True} if tree is None else _pipeline_1(plan, tree, stages)
    if stages.get(ASSEMBLER):
        document["assembler"] = stages[ASSEMBLER][0]
        document["success"] = document["success"] and document["assembler"]["success"]
    return document


def _pipeline_1(plan: Plan, pipeline: Pipeline, stages: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    own = stages.get(pipeline.name, [])
    document: dict[str, Any] = {"success": all(stage["success"] for stage in own)}
    build = plan.build_root(pipeline)
    if build is not None:
        document["build"] = _pipeline_1(plan, build, stages)
        document["success"] = document["success"] and document["build"]["success"]
    if own:
        document["stages"] = own
    return document
