"""The documents that osbuild prints with `--json`, made from what the engine says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kiln.engine.execution.model import BuildResult, StageFailedError, StageRun
from kiln.errors import Domain, KilnError


def success(result: BuildResult) -> dict[str, Any]:
    """Return the document of a build that went well; the log has the stages that ran."""
    return {
        "type": "result",
        "success": True,
        "metadata": {pipeline: dict(stages) for pipeline, stages in result.metadata.items()},
        "sources": {"success": True},
        "log": _log(result.stages),
    }


def failure(error: KilnError) -> dict[str, Any]:
    """Return the document of a build that an error has ended."""
    document: dict[str, Any] = {"type": "error", "success": False, "error": _error(error)}
    document["sources"] = {"success": error.domain is not Domain.FETCH}
    if isinstance(error, StageFailedError):
        log = _log((*error.finished, error.run))
        log[error.run.pipeline][-1] |= {"success": False, "error": error.error}
        document["log"] = log
    else:
        document["log"] = {}
    return document


def _error(error: KilnError) -> Mapping[str, Any]:
    if isinstance(error, StageFailedError):
        run = error.run
        stage = {"id": run.id, "type": run.type, "output": run.output, "error": error.error}
        if error.reason != "stage-failed":
            stage["error"] = error.error or {
                "type": "exception",
                "data": {"type": error.reason, "value": error.message},
            }
        return {"type": "org.osbuild.error.stage", "details": {"stage": stage}}
    if error.domain is Domain.FETCH:
        output = "\n".join(part for part in (error.message, error.detail) if part)
        return {"type": "org.osbuild.error.source", "details": {"source": {"type": error.reason, "output": output}}}
    return {"type": "org.kiln.error", "details": error.to_document()}


def _log(runs: Iterable[StageRun]) -> dict[str, list[dict[str, Any]]]:
    log: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if not run.cached:
            log.setdefault(run.pipeline, []).append({"id": run.id, "type": run.type, "output": run.output})
    return log
