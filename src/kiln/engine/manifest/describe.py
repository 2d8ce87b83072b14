"""Writing a plan back as a manifest: with ids, as `--inspect` prints it, or to be read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kiln.engine.manifest.formats import ASSEMBLER
from kiln.engine.manifest.load_1 import RENAMED, TREE
from kiln.engine.manifest.model import ORIGIN_PIPELINE, Device, Input, Mount, Pipeline, Plan, Source, Stage


def describe(plan: Plan, *, ids: bool = True) -> dict[str, Any]:
    """Return the manifest in format 2: with the ids of stages, and ids for references; or, without *ids*, as written.

    Without ids, an assembler stands at the top (the hybrid), because a stage may have the same name.
    """
    names = {} if ids else {pipeline.id: f"name:{pipeline.name}" for pipeline in reversed(plan.pipelines)}
    assemblers = [] if ids else [stage for pipeline in plan.pipelines for stage in pipeline.stages if _made(stage)]
    document: dict[str, Any] = {
        "version": "2",
        "pipelines": [
            _pipeline(plan, pipeline, names)
            for pipeline in plan.pipelines
            if not any(stage in assemblers for stage in pipeline.stages)
        ],
    }
    if plan.metadata:
        document["metadata"] = dict(plan.metadata)
    if plan.sources:
        document["sources"] = {source.type: _source(source, whole=not ids) for source in plan.sources}
    for stage in assemblers:
        document[ASSEMBLER] = {"name": stage.type, "options": stage.options}
    return document


def describe_1(plan: Plan) -> dict[str, Any]:
    """Return the plan of a manifest of format 1 in that format, with the ids of stages."""
    tree = plan.pipeline(TREE)
    main = {} if tree is None else _pipeline_1(plan, tree)
    assembler = plan.pipeline(ASSEMBLER)
    if assembler is not None:
        main["assembler"] = _stage_1(assembler.stages[0])
    document: dict[str, Any] = {"pipeline": main}
    if plan.sources:
        old = {new: name for name, new in RENAMED.items()}
        document["sources"] = {old.get(source.type, source.type): dict(source.options) for source in plan.sources}
    return document


def _pipeline_1(plan: Plan, pipeline: Pipeline) -> dict[str, Any]:
    description: dict[str, Any] = {}
    build = None if pipeline.build is None else plan.pipeline(pipeline.build)
    if build is not None and build.stages:
        description["build"] = {"pipeline": _pipeline_1(plan, build), "runner": build.runner}
    if pipeline.stages:
        description["stages"] = [_stage_1(stage) for stage in pipeline.stages]
    return description


def _stage_1(stage: Stage) -> dict[str, Any]:
    options = {"options": stage.options} if stage.options else {}
    return {"name": stage.type, **options, "id": stage.id}


def _made(stage: Stage) -> bool:
    return stage.kind == "Assembler"


def _pipeline(plan: Plan, pipeline: Pipeline, names: Mapping[str | None, str]) -> dict[str, Any]:
    description: dict[str, Any] = {"name": pipeline.name}
    build = None if pipeline.build is None else plan.pipeline(pipeline.build)
    if build is not None:
        description["build"] = f"name:{build.name}" if names else build.id
    if pipeline.runner is not None:
        description["runner"] = pipeline.runner
    if pipeline.source_epoch is not None and names:  # osbuild's --inspect has neither this nor parents and options
        description["source-epoch"] = pipeline.source_epoch
    if pipeline.stages:
        description["stages"] = [_stage(stage, names) for stage in pipeline.stages]
    return description


def _stage(stage: Stage, names: Mapping[str | None, str]) -> dict[str, Any]:
    description: dict[str, Any] = {"type": stage.type}
    if not names:
        description["id"] = stage.id
    if stage.options:
        description["options"] = stage.options
    if stage.devices:
        description["devices"] = {device.name: _device(device, whole=bool(names)) for device in stage.devices}
    if stage.mounts:
        description["mounts"] = [_mount(mount) for mount in stage.mounts]
    if stage.inputs:
        description["inputs"] = {entry.name: _input(entry, names) for entry in stage.inputs}
    return description


def _device(device: Device, *, whole: bool) -> dict[str, Any]:
    description: dict[str, Any] = {"type": device.type}
    if whole and device.parent is not None:
        description["parent"] = device.parent
    if device.options:
        description["options"] = device.options
    return description


def _mount(mount: Mount) -> dict[str, Any]:
    description: dict[str, Any] = {"name": mount.name, "type": mount.type, "target": mount.target}
    if mount.source is not None:
        description["source"] = mount.source
    if mount.partition:
        description["partition"] = mount.partition
    if mount.options:
        description["options"] = mount.options
    return description


def _input(entry: Input, names: Mapping[str | None, str]) -> dict[str, Any]:
    description: dict[str, Any] = {"type": entry.type, "origin": entry.origin}
    if entry.options:
        description["options"] = entry.options
    if entry.references:
        # A source's checksum is nobody's id.
        known = names if entry.origin == ORIGIN_PIPELINE else {}
        description["references"] = {known.get(key, key): value for key, value in entry.references.items()}
    return description


def _source(source: Source, *, whole: bool) -> dict[str, Any]:
    description: dict[str, Any] = {"items": source.items}
    if whole and source.options:
        description["options"] = source.options
    return description
