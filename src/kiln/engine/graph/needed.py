"""What must run for the wanted exports: the stages that are not stored, and what each one waits for.

Pure: whether something is stored is asked of a function. As in osbuild, a pipeline whose last stage is stored needs
nothing; otherwise work starts after the newest stored stage, and only the remaining stages pull in build roots and
inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kiln.engine.manifest.model import Pipeline, Plan, Stage


@dataclass(frozen=True, slots=True)
class Job:
    """Run stage number *index* (from 0) of *pipeline* after the jobs in *needs* have succeeded."""

    pipeline: Pipeline
    index: int
    needs: frozenset[str]

    @property
    def name(self) -> str:
        """A name that is unique in the plan."""
        return job_name(self.pipeline, self.index)

    @property
    def stage(self) -> Stage:
        """The stage to run."""
        return self.pipeline.stages[self.index]


def job_name(pipeline: Pipeline, index: int) -> str:
    """Return the name of the job for a stage."""
    return f"{pipeline.name}/{index}"


def needed_jobs(plan: Plan, exports: Iterable[Pipeline], stored: Callable[[Pipeline, int], bool]) -> list[Job]:
    """Return the jobs for *exports* in an order in which they can run one after another (the manifest's).

    *stored* tells whether the result of a stage (by index) can be used.
    """
    first: dict[str, int] = {}
    todo = list(exports)
    while todo:
        pipeline = todo.pop()
        if pipeline.name in first:
            continue
        first[pipeline.name] = start = _first_to_run(pipeline, stored)
        todo += dependencies(plan, pipeline, start)
    jobs = []
    for pipeline in plan.pipelines:
        for index in range(first.get(pipeline.name, len(pipeline.stages)), len(pipeline.stages)):
            jobs.append(Job(pipeline, index, _needs(plan, pipeline, index, first)))
    return jobs


def dependencies(plan: Plan, pipeline: Pipeline, start: int = 0) -> list[Pipeline]:
    """Return the pipelines whose trees the stages of *pipeline* from *start* on use; none if none is left to run."""
    stages = pipeline.stages[start:]
    if not stages:
        return []
    names = dict.fromkeys(name for stage in stages for entry in stage.inputs for name in entry.pipelines)
    if pipeline.build is not None:
        names[pipeline.build] = None
    return [other for other in plan.pipelines if other.name in names]


def reachable(plan: Plan, exports: Iterable[Pipeline]) -> list[Pipeline]:
    """Return *exports* and every pipeline that they are made of, in the manifest's order."""
    seen: set[str] = set()
    todo = list(exports)
    while todo:
        pipeline = todo.pop()
        if pipeline.name not in seen:
            seen.add(pipeline.name)
            todo += dependencies(plan, pipeline)
    return [pipeline for pipeline in plan.pipelines if pipeline.name in seen]


def _first_to_run(pipeline: Pipeline, stored: Callable[[Pipeline, int], bool]) -> int:
    for index in range(len(pipeline.stages) - 1, -1, -1):
        if stored(pipeline, index):
            return index + 1
    return 0


def _needs(plan: Plan, pipeline: Pipeline, index: int, first: dict[str, int]) -> frozenset[str]:
    stage = pipeline.stages[index]
    needs = {job_name(pipeline, index - 1)} if index > first[pipeline.name] else set()
    names = {name for entry in stage.inputs for name in entry.pipelines}
    if pipeline.build is not None:
        names.add(pipeline.build)
    for other in plan.pipelines:
        if other.name in names and first[other.name] < len(other.stages):
            needs.add(job_name(other, len(other.stages) - 1))
    return frozenset(needs)
