"""What the monitors have in common: the plan, and which stage an event is of."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from kiln.engine.execution.observer import NullObserver
from kiln.engine.manifest.model import Pipeline, Plan, Stage
from kiln.engine.manifest.modules import Modules
from kiln.events.model import StageFinished, StageStarted


@dataclass(slots=True)
class Counted:
    """The stages of a pipeline that run, and how many have ended."""

    pipeline: Pipeline
    begun: bool = False
    done: int = 0
    stage: Stage | None = None
    ended: bool = False


class Follower(NullObserver):
    """The base of the monitors. Their methods are called from several threads and take *guard*."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.guard = threading.RLock()
        self.plan = Plan((), ())
        self.modules: Modules | None = None
        self.pipelines: dict[str, Counted] = {}

    def load(self, plan: Plan, modules: Modules) -> None:
        """Take the plan."""
        self.plan = plan
        self.modules = modules
        self.pipelines = {pipeline.name: Counted(pipeline) for pipeline in plan.pipelines}

    def write(self, text: str) -> None:
        """Write everything to the descriptor; nobody there is no reason to end a build."""
        data = text.encode("utf-8", "replace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            self._descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def counted(self, event: StageStarted | StageFinished) -> Counted:
        """Return the pipeline of an event, with the stage that has started."""
        counted = self.pipelines[event.pipeline]
        if isinstance(event, StageStarted):
            counted.stage = counted.pipeline.stages[event.index - 1]
        return counted

    def is_last(self, counted: Counted) -> bool:
        """Whether the stage that has started is the pipeline's last one."""
        stages = counted.pipeline.stages
        return counted.stage is not None and counted.stage.id == stages[-1].id
