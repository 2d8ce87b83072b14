"""Reading a valid manifest as a `Plan`: references resolved, order checked, ids computed.

Time is linear in the size of the document. Everything that a schema cannot say is refused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from kiln.engine.manifest import identity
from kiln.engine.manifest.formats import ASSEMBLER, format_of, normalise, refuse
from kiln.engine.manifest.model import (
    ORIGIN_PIPELINE,
    ORIGIN_SOURCE,
    Device,
    Input,
    Mount,
    Options,
    Pipeline,
    Plan,
    Source,
    Stage,
)

PIPELINE_PREFIX: Final = "name:"
TREE_INPUT: Final = "org.osbuild.tree"


def load(document: Mapping[str, Any]) -> Plan:
    """Return the plan that a schema-valid manifest describes. Raises KilnError(MANIFEST, "invalid-manifest")."""
    if format_of(document) == "1":
        from kiln.engine.manifest.load_1 import load_1  # noqa: PLC0415 - a circle, and seldom needed

        return load_1(document)
    document = normalise(document)
    sources = tuple(
        Source(type_, source.get("items", {}), source.get("options", {}))
        for type_, source in document.get("sources", {}).items()
    )
    loader = Loader(known_sources={item for source in sources for item in source.items})
    for index, description in enumerate(document.get("pipelines", [])):
        loader.add(description, f".pipelines[{index}]")
    if document.get(ASSEMBLER):
        loader.add_assembler(document[ASSEMBLER])
    return Plan(tuple(loader.pipelines.values()), sources, document.get("metadata", {}))


@dataclass(slots=True)
class Loader:
    """Takes pipelines one after another. *pipelines* are by name, in order."""

    known_sources: set[str]
    pipelines: dict[str, Pipeline] = field(default_factory=dict)

    def add(self, description: Mapping[str, Any], path: str) -> None:
        """Add a pipeline of format 2; *path* is its place in the manifest. Raises KilnError."""
        name = description.get("name")
        if not name:
            raise refuse(path, "the pipeline has no name")
        if name in self.pipelines:
            raise refuse(path, f"two pipelines have the name `{name}`")
        build = self._build(description.get("build"), path)
        build_id = None if build is None else self.pipelines[build].id
        epoch = description.get("source-epoch")
        stages: list[Stage] = []
        for index, stage in enumerate(description.get("stages", [])):
            base = stages[-1].id if stages else None
            stages.append(self._stage(stage, build_id, base, epoch, f"{path}.stages[{index}]"))
        self.pipelines[name] = Pipeline(name, build, description.get("runner"), epoch, tuple(stages))

    def add_assembler(self, description: Mapping[str, Any]) -> None:
        """Add a pipeline whose only stage makes something of the last pipeline's tree. Raises KilnError."""
        if not self.pipelines:
            raise refuse(f".{ASSEMBLER}", "an assembler needs a pipeline whose tree it uses")
        if ASSEMBLER in self.pipelines:
            raise refuse(f".{ASSEMBLER}", f"a pipeline has the name `{ASSEMBLER}` already")
        tree = list(self.pipelines.values())[-1]
        if tree.id is None:
            raise refuse(f".{ASSEMBLER}", "an assembler needs a tree; the last pipeline has no stages")
        reference = {"type": TREE_INPUT, "origin": ORIGIN_PIPELINE, "references": [f"{PIPELINE_PREFIX}{tree.name}"]}
        stage = {
            "type": description.get("name") or description.get("type"),
            "options": description.get("options") or {},
            "inputs": {"tree": reference},
        }
        build = None if tree.build is None else self.pipelines[tree.build].id
        made = self._stage(stage, build, None, tree.source_epoch, f".{ASSEMBLER}")
        stages = (replace(made, kind="Assembler"),)
        self.pipelines[ASSEMBLER] = Pipeline(ASSEMBLER, tree.build, None, tree.source_epoch, stages)

    def _build(self, reference: str | None, path: str) -> str | None:
        if not reference:
            return None
        if reference.startswith(PIPELINE_PREFIX):
            return self._pipeline(reference, f"{path}.build").name
        for pipeline in self.pipelines.values():
            if pipeline.id == reference:
                return pipeline.name
        raise refuse(f"{path}.build", f"no earlier pipeline has the id {reference!r}")

    def _pipeline(self, reference: str, path: str) -> Pipeline:
        name = reference.removeprefix(PIPELINE_PREFIX)
        pipeline = self.pipelines.get(name)
        if pipeline is None:
            known = ", ".join(f"name:{known}" for known in self.pipelines) or "none"
            raise refuse(
                path,
                f"no earlier pipeline has the name `{name}`",
                hint=f"a pipeline may refer only to pipelines that stand before it; here: {known}",
            )
        return pipeline

    def _stage(
        self, stage: Mapping[str, Any], build: str | None, base: str | None, epoch: int | None, path: str
    ) -> Stage:
        options: Options = stage.get("options") or {}
        devices = _devices(stage.get("devices", {}), path)
        inputs = tuple(
            self._input(name, description, f"{path}.inputs.{name}")
            for name, description in stage.get("inputs", {}).items()
        )
        mounts = _mounts(stage.get("mounts", []), devices, path)
        id_ = identity.stage_id(
            stage["type"],
            build=build,
            base=base,
            options=options,
            source_epoch=epoch,
            inputs={entry.name: entry.id for entry in inputs},
            mounts=[mount.id for mount in mounts.values()],
        )
        return Stage(stage["type"], options, tuple(devices.values()), inputs, tuple(mounts.values()), id_)

    def _input(self, name: str, description: Mapping[str, Any], path: str) -> Input:
        if "/" in name:
            raise refuse(path, f"{name!r} is not a name for an input")
        origin = description["origin"]
        references = _references(description.get("references", {}))
        pipelines: list[str] = []
        if origin == ORIGIN_PIPELINE:
            resolved: dict[str, Options] = {}
            for reference, options in references.items():
                if not reference.startswith(PIPELINE_PREFIX):
                    raise refuse(path, f"{reference!r} does not name a pipeline", hint="write `name:<pipeline>`")
                pipeline = self._pipeline(reference, path)
                if pipeline.id is None:
                    raise refuse(
                        path, f"the pipeline `{pipeline.name}` has no stages, so that there is nothing to read"
                    )
                if pipeline.id not in resolved:
                    pipelines.append(pipeline.name)
                resolved[pipeline.id] = options
            references = resolved
        elif unknown := references.keys() - self.known_sources:
            shown = ", ".join(sorted(unknown)[:5])
            raise refuse(path, f"{len(unknown)} reference(s) that no source provides: {shown}")
        options = description.get("options") or {}
        id_ = identity.input_id(description["type"], origin, references, options)
        return Input(
            name,
            description["type"],
            ORIGIN_PIPELINE if origin == ORIGIN_PIPELINE else ORIGIN_SOURCE,
            references,
            options,
            tuple(pipelines),
            id_,
        )


def _references(references: Any) -> dict[str, Options]:
    """Return the three spellings of references (names, objects with an id, a mapping) as a mapping."""
    if isinstance(references, Mapping):
        return dict(references)
    result: dict[str, Options] = {}
    for reference in references:
        if isinstance(reference, str):
            result[reference] = {}
        else:
            result[reference["id"]] = reference.get("options") or {}
    return result


def _devices(descriptions: Mapping[str, Any], path: str) -> dict[str, Device]:
    """Return the devices with parents before children, in the order in which osbuild starts them."""
    result: dict[str, Device] = {}
    todo = list(descriptions)
    while todo:
        waiting = []
        for name in todo:
            description = descriptions[name]
            parent = description.get("parent") or None
            if parent is not None and parent not in descriptions:
                raise refuse(f"{path}.devices.{name}", f"the parent device `{parent}` does not exist")
            if parent is not None and parent not in result:
                waiting.append(name)
                continue
            options = description.get("options") or {}
            parent_id = None if parent is None else result[parent].id
            id_ = identity.device_id(description["type"], parent_id, options)
            result[name] = Device(name, description["type"], parent, options, id_)
        if len(waiting) == len(todo):
            raise refuse(f"{path}.devices.{todo[0]}", f"the device `{todo[0]}` is its own ancestor")
        todo = waiting
    return result


def _mounts(descriptions: list[Mapping[str, Any]], devices: Mapping[str, Device], path: str) -> dict[str, Mount]:
    result: dict[str, Mount] = {}
    for index, description in enumerate(descriptions):
        place = f"{path}.mounts[{index}]"
        name, source = description["name"], description.get("source")
        if name in result:
            raise refuse(place, f"two mounts have the name `{name}`")
        if source and source not in devices:
            raise refuse(place, f"the device `{source}` does not exist")
        options = description.get("options") or {}
        partition, target = description.get("partition"), description.get("target")
        device = devices[source].id if source else None
        id_ = identity.mount_id(description["type"], device, partition, target, options)
        result[name] = Mount(name, description["type"], source or None, partition, target, options, id_)
    return result
