"""Running a stage in a sandbox of this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from kiln.engine.execution import remoteloop
from kiln.engine.execution.failure import stage_failure
from kiln.engine.execution.launch import Launcher
from kiln.engine.execution.messages import ENDPOINT, Messages
from kiln.engine.execution.model import StageRun
from kiln.engine.execution.output import StageOutput
from kiln.engine.execution.packets import PacketServer
from kiln.engine.execution.prepare import prepare
from kiln.engine.execution.shell import open_shell
from kiln.engine.execution.work import StageContext, StageWork
from kiln.engine.objects.working import WorkingTree

MAX_METADATA_BYTES: Final = 64 * 1024 * 1024


class LocalRunner:
    """Runs stages here; *launcher* starts their programs."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def run(self, work: StageWork, context: StageContext, working: WorkingTree) -> StageRun:
        """Run a stage on *working*. Raises as StageRunner does."""
        stage = work.stage
        output = StageOutput(context.sink, stage.type, stage.id)
        with ExitStack() as held:
            prepared = prepare(work, context, working, held)
            confinement = context.confiner.confine(work, prepared.scratch.dev)
            held.callback(context.confiner.release, confinement)
            messages = Messages(context.sink, stage.type)
            server = PacketServer()
            held.callback(server.close)
            server.listen(prepared.scratch.api, ENDPOINT, messages.handle)
            loops = remoteloop.RemoteLoops(held, confinement.group)
            server.listen(prepared.scratch.api, remoteloop.ENDPOINT, loops.handle)
            if context.break_at in ("*", stage.type, stage.id):
                open_shell(prepared.sandbox, f"{work.pipeline.name}: {stage.type}")
            ended = self._launcher.launch(prepared, confinement, context, on_output=output.feed, server=server)
            output.finish()
            metadata = _metadata(prepared.scratch.root / "meta")
            run = StageRun(work.pipeline.name, stage.type, stage.id, ended.seconds, False, output.text, metadata)
            if ended.how != "exited" or ended.status != 0:
                # Inside the block: services that cannot release what a failed stage left must not hide its failure.
                exceeded = None if confinement.group is None else confinement.group.exceeded()
                raise stage_failure(
                    work,
                    context,
                    run=run,
                    ended=ended,
                    output=output,
                    exception=messages.exception,
                    exceeded=exceeded,
                )
        return run


def _metadata(path: Path) -> Mapping[str, Any] | None:
    with path.open("rb") as file:
        data = file.read(MAX_METADATA_BYTES + 1)
    if not data or len(data) > MAX_METADATA_BYTES:
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
