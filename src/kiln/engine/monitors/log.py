"""The monitor that writes text.

Stages run at the same time here, which osbuild's never do: it shows one after the other, and holds back what the others
print meanwhile.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from kiln.engine.execution.runners import runner_program
from kiln.engine.execution.sources import SourceItem
from kiln.engine.manifest import identity
from kiln.engine.manifest.model import Pipeline, Source
from kiln.engine.monitors.follow import Follower
from kiln.events.model import Event, Notice, Output, StageFinished, StageStarted

BOLD: Final = "\033[1m"
RESET: Final = "\033[0m"


@dataclass(slots=True)
class _Shown:
    """A stage in the text: what it has said, as long as another one is being shown."""

    held: list[str] = field(default_factory=list)
    finished: bool = False


class LogMonitor(Follower):
    """Headings of pipelines and stages, and what stages print; escape codes only on a terminal."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self._terminal = os.isatty(descriptor)
        self._running: dict[str, _Shown] = {}

    def log(self, text: str, origin: str) -> None:
        """Write a message as it is."""
        del origin
        with self.guard:
            self.write(text)

    def source_finished(self, source: Source, items: Sequence[SourceItem], error: str | None) -> None:
        """Write the heading and the end of a source."""
        with self.guard:
            self.write(self._heading(f"source {source.type}", identity.source_id(source.type, source.items)))
            self.write("Build\n  root: <host>\n")
            self.write(f"{error}\n" if error else "")
            self.write(_duration(0.0))

    def emit(self, event: Event) -> None:
        """Write one event, or hold it back."""
        with self.guard:
            match event:
                case StageStarted():
                    self._running[event.stage_id] = _Shown()
                    self._say(event.stage_id, self._start(event))
                case Output() if event.stage_id:
                    self._say(event.stage_id, event.text)
                case Output():
                    self.write(event.text)
                case StageFinished() if event.stage_id in self._running:
                    self._say(event.stage_id, _duration(event.seconds))
                    self._running[event.stage_id].finished = True
                    self._advance()
                case Notice():
                    self.write(f"{event.text}\n")
                case _:
                    return

    def _say(self, id_: str, text: str) -> None:
        shown = self._running.get(id_)
        if shown is None or shown is next(iter(self._running.values())):
            self.write(text)
        else:
            shown.held.append(text)

    def _advance(self) -> None:
        while self._running:
            id_, shown = next(iter(self._running.items()))
            self.write("".join(shown.held))
            shown.held.clear()
            if not shown.finished:
                return
            del self._running[id_]

    def _start(self, event: StageStarted) -> str:
        counted = self.counted(event)
        text = "" if counted.begun else self._begin(counted.pipeline)
        counted.begun = True
        stage = counted.stage
        options = json.dumps({} if stage is None else stage.options, indent=2)
        return f"{text}{self._bold(f'{event.stage}: {event.stage_id}')} {options}\n"

    def _begin(self, pipeline: Pipeline) -> str:
        root = self.plan.build_root(pipeline)
        text = self._heading(pipeline.name, pipeline.id)
        text += f"Build\n  root: {'<host>' if root is None else root.id}\n"
        wanted = self.plan.runner_for(pipeline)
        program = None
        if self.modules is not None:
            program = runner_program(self.modules.libdir, wanted)
        if program is not None:
            text += f"  runner: {program.name} ({program})\n"
        elif wanted is not None:
            text += f"  runner: {wanted}\n"
        if pipeline.source_epoch is not None:
            moment = datetime.fromtimestamp(pipeline.source_epoch).astimezone().strftime("%c")
            text += f"  source-epoch: {moment} [{pipeline.source_epoch}]\n"
        return text

    def _heading(self, name: str, id_: str | None) -> str:
        return f"{self._bold(f'Pipeline {name}: {id_}')}\n"

    def _bold(self, text: str) -> str:
        return f"{RESET}{BOLD}{text}{RESET}" if self._terminal else text


def _duration(seconds: float) -> str:
    return f"\n⏱  Duration: {seconds:.2f}s\n"
