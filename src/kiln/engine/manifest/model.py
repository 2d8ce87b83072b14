"""A plan as values: what osbuild's manifest, version 2, says, with every reference resolved and every id computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Options = Mapping[str, Any]
"""A JSON object, passed on to the program it belongs to as it was written."""

ORIGIN_SOURCE: Final = "org.osbuild.source"
ORIGIN_PIPELINE: Final = "org.osbuild.pipeline"


@dataclass(frozen=True, slots=True)
class Device:
    """A device that is set up for a stage; *parent* is the name of another device of the same stage."""

    name: str
    type: str
    parent: str | None
    options: Options
    id: str


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system that is mounted for a stage; *source* is the name of one of its devices."""

    name: str
    type: str
    source: str | None
    partition: int | None
    target: str | None
    options: Options
    id: str


@dataclass(frozen=True, slots=True)
class Input:
    """Files or trees that a stage reads. The keys of *references* are source checksums or pipeline ids.

    *pipelines* are the names of the pipelines that the references mean, in the same order (origin pipeline only).
    """

    name: str
    type: str
    origin: Literal["org.osbuild.source", "org.osbuild.pipeline"]
    references: Mapping[str, Options]
    options: Options
    pipelines: tuple[str, ...]
    id: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One program that changes a tree. *devices* stand parents first, *mounts* and *inputs* in the manifest's order."""

    type: str
    options: Options
    devices: tuple[Device, ...]
    inputs: tuple[Input, ...]
    mounts: tuple[Mount, ...]
    id: str
    kind: Literal["Stage", "Assembler"] = "Stage"
    """An assembler is a program of the libdir's own folder that makes something of the tree of its only input."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Stages that run one after another on one tree.

    *build* is the name of the pipeline whose tree holds the programs (None: the host's). *runner* is the runner for
    pipelines that build inside this one's tree. *source_epoch* is in seconds; files of a layer are not newer.
    """

    name: str
    build: str | None
    runner: str | None
    source_epoch: int | None
    stages: tuple[Stage, ...]

    @property
    def id(self) -> str | None:
        """The id of the last stage, or None for a pipeline without stages (an empty tree)."""
        return self.stages[-1].id if self.stages else None


@dataclass(frozen=True, slots=True)
class Source:
    """Files to have before the build; *items* maps a checksum to where they come from."""

    type: str
    items: Mapping[str, Any]
    options: Options


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole manifest. Every pipeline refers only to earlier ones."""

    pipelines: tuple[Pipeline, ...]
    sources: tuple[Source, ...]
    metadata: Options = field(default_factory=dict)
    format: Literal["1", "2"] = "2"
    """The format of the manifest, which decides how osbuild prints results."""

    def pipeline(self, name_or_id: str) -> Pipeline | None:
        """Return the pipeline of that name, or else the first with that id."""
        for pipeline in self.pipelines:
            if pipeline.name == name_or_id:
                return pipeline
        return next((pipeline for pipeline in self.pipelines if pipeline.id == name_or_id), None)

    def build_root(self, pipeline: Pipeline) -> Pipeline | None:
        """Return the pipeline in whose tree *pipeline* is built; None is the host (also for an empty tree)."""
        build = None if pipeline.build is None else self.pipeline(pipeline.build)
        return build if build is not None and build.stages else None

    def runner_for(self, pipeline: Pipeline) -> str | None:
        """Return the runner for the stages of *pipeline*: that of its build root; None means the host's."""
        build = self.build_root(pipeline)
        return None if build is None else build.runner
