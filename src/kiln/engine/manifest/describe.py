"""Writing a plan back as a manifest of version 2 with the ids in it, as `--inspect` prints it."""

from __future__ import annotations

from typing import Any

from kiln.engine.manifest.model import Device, Input, Mount, Pipeline, Plan, Source, Stage


def describe(plan: Plan) -> dict[str, Any]:
    """Return the manifest with the id of each stage; `build` and references are ids."""
    document: dict[str, Any] = {
        "version": "2",
        "pipelines": [_pipeline(plan, pipeline) for pipeline in plan.pipelines],
    }
    if plan.metadata:
        document["metadata"] = dict(plan.metadata)
    if plan.sources:
        document["sources"] = {source.type: _source(source) for source in plan.sources}
    return document


def _pipeline(plan: Plan, pipeline: Pipeline) -> dict[str, Any]:
    description: dict[str, Any] = {"name": pipeline.name}
    build = None if pipeline.build is None else plan.pipeline(pipeline.build)
    if build is not None:
        description["build"] = build.id
    if pipeline.runner is not None:
        description["runner"] = pipeline.runner
    if pipeline.source_epoch is not None:
        description["source-epoch"] = pipeline.source_epoch
    if pipeline.stages:
        description["stages"] = [_stage(stage) for stage in pipeline.stages]
    return description


def _stage(stage: Stage) -> dict[str, Any]:
    description: dict[str, Any] = {"type": stage.type, "id": stage.id}
    if stage.options:
        description["options"] = stage.options
    if stage.devices:
        description["devices"] = {device.name: _device(device) for device in stage.devices}
    if stage.mounts:
        description["mounts"] = [_mount(mount) for mount in stage.mounts]
    if stage.inputs:
        description["inputs"] = {entry.name: _input(entry) for entry in stage.inputs}
    return description


def _device(device: Device) -> dict[str, Any]:
    description: dict[str, Any] = {"type": device.type}
    if device.parent is not None:
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


def _input(entry: Input) -> dict[str, Any]:
    description: dict[str, Any] = {"type": entry.type, "origin": entry.origin}
    if entry.options:
        description["options"] = entry.options
    if entry.references:
        description["references"] = dict(entry.references)
    return description


def _source(source: Source) -> dict[str, Any]:
    description: dict[str, Any] = {"items": source.items}
    if source.options:
        description["options"] = source.options
    return description
