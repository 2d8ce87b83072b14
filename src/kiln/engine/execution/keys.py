"""The private cache keys of stages: what a stored tree must agree with to be used again.

The public id does not know the code of a stage, nor its devices, nor what is in the build root. The key is the
SHA-256 of the public id and all of these, chained along the pipeline:

    stage program and its extra capabilities, the runtime in libdir/osbuild, programs of inputs, devices and mounts,
    devices, key of the stage before, key of the build root (for the host: its os-release), keys of the pipelines
    that inputs read, the runner's name
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kiln.engine.execution.inputs import NATIVE_INPUTS
from kiln.engine.execution.libdir import runtime_directory
from kiln.engine.manifest.model import Pipeline, Plan, Stage
from kiln.engine.manifest.modules import Kind, Modules

KEY_VERSION: Final = 1
"""Increased when the engine itself makes different trees from the same input."""
OS_RELEASE: Final = (Path("/etc/os-release"), Path("/usr/lib/os-release"))


@dataclass(slots=True)
class Keys:
    """The keys of one plan, each computed once."""

    plan: Plan
    modules: Modules
    _keys: dict[str, list[str]] = field(init=False, default_factory=dict)
    _programs: dict[tuple[Kind, str], str] = field(init=False, default_factory=dict)
    _common: str = field(init=False)

    def __post_init__(self) -> None:
        self._common = f"{KEY_VERSION} {runtime_digest(runtime_directory(self.modules.libdir))}"
        for pipeline in self.plan.pipelines:
            keys = self._keys.setdefault(pipeline.name, [])
            for stage in pipeline.stages:
                keys.append(self._compute(pipeline, stage, keys[-1] if keys else ""))

    def key(self, pipeline: Pipeline, index: int) -> str:
        """Return the key of stage number *index* (from 0)."""
        return self._keys[pipeline.name][index]

    def last(self, name: str) -> str:
        """Return the key of a pipeline's tree; an empty text for an empty tree."""
        keys = self._keys[name]
        return keys[-1] if keys else ""

    def _compute(self, pipeline: Pipeline, stage: Stage, base: str) -> str:
        root = self.plan.build_root(pipeline)
        build = f"host {host_identity()}" if root is None else f"tree {self.last(root.name)}"
        module = self.modules.find(stage.kind, stage.type)
        parts: list[object] = [
            self._common,
            stage.id,
            base,
            build,
            self.plan.runner_for(pipeline),
            self._program(stage.kind, stage.type),
            sorted(module.capabilities) if module is not None else [],
            [[device.name, device.id, self._program("Device", device.type)] for device in stage.devices],
            [[mount.name, mount.source, self._program("Mount", mount.type)] for mount in stage.mounts],
            [[entry.name, self._input(entry.type), *map(self.last, entry.pipelines)] for entry in stage.inputs],
        ]
        return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()

    def _input(self, type_: str) -> str:
        return "native" if type_ in NATIVE_INPUTS else self._program("Input", type_)

    def _program(self, kind: Kind, name: str) -> str:
        known = self._programs.get((kind, name))
        if known is None:
            module = self.modules.find(kind, name)
            try:
                data = b"" if module is None else module.path.read_bytes()
            except OSError:
                data = b""
            known = self._programs[kind, name] = hashlib.sha256(data).hexdigest()
        return known


def runtime_digest(directory: Path) -> str:
    """Return the digest of the Python files of the package `osbuild` in *directory*."""
    state = hashlib.sha256()
    for path in sorted((directory / "osbuild").rglob("*.py")):
        state.update(f"{path.relative_to(directory)}\0".encode())
        state.update(hashlib.sha256(path.read_bytes()).digest())
    return state.hexdigest()


def host_identity() -> str:
    """Return what stands for the host as a build root: a new release of its system makes other trees."""
    for path in OS_RELEASE:
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError:
            continue
    return "unknown"
