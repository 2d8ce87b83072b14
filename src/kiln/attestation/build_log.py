"""What the engine did, stage by stage, and the statement about it (`urn:kiln:predicate:build-log:v1`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kiln.engine.execution.model import BuildResult
from kiln_wire import layout
from kiln_wire.canonical import canonical_json, strict_loads
from kiln_wire.codec import encode
from kiln_wire.digest import Digest
from kiln_wire.statement import digest_set

KIND: Final = "kiln.stages/v1"


@dataclass(frozen=True, slots=True)
class LoggedStage:
    """One stage of the build. *output* is the digest of what it printed."""

    pipeline: str
    type: str
    id: str
    cached: bool
    milliseconds: int
    output: Digest


def stages_bytes(result: BuildResult) -> bytes:
    """Return `evidence/stages.json`: the stages in the order in which they ended."""
    stages = [
        LoggedStage(
            stage.pipeline,
            stage.type,
            stage.id,
            stage.cached,
            round(stage.seconds * 1000),
            Digest.of(stage.output.encode("utf-8", "replace")),
        )
        for stage in result.stages
    ]
    return canonical_json({"kind": KIND, "stages": encode(stages)})


def build_log_predicate(directory: Path, files: Mapping[str, Digest]) -> dict[str, Any]:
    """Return the predicate: the log by digest, and the stages as `evidence/stages.json` has them."""
    path = directory / layout.BUILD_LOG
    return {
        "log": {
            "name": layout.BUILD_LOG,
            "digest": digest_set(files[layout.BUILD_LOG]),
            "sizeBytes": path.stat().st_size,
        },
        "stages": strict_loads((directory / layout.STAGES).read_bytes())["stages"],
    }
