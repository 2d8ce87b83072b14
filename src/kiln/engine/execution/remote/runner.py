"""A remote host as a place where stages run."""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from kiln.engine.execution.keys import host_identity
from kiln.engine.execution.model import StageFailedError, StageRun
from kiln.engine.execution.places import PlaceError
from kiln.engine.execution.remote.address import RemoteHost
from kiln.engine.execution.remote.connection import Connection, connected
from kiln.engine.execution.remote.documents import JobRequest, Outcome, WorkerHello
from kiln.engine.execution.remote.outbox import Outbox
from kiln.engine.execution.work import StageContext, StageWork
from kiln.engine.manifest.model import ORIGIN_SOURCE
from kiln.engine.objects.working import WorkingTree
from kiln.events.model import Notice

REASONS: Final = ("stage-failed", "stage-timeout", "service-failed")
MEGABYTE: Final = 1_000_000


class RemoteRunner:
    """Runs stages on *host*, over one connection for each that runs at the same time; close it in the end."""

    def __init__(self, host: RemoteHost, outbox: Outbox) -> None:
        self._host = host
        self._outbox = outbox
        self._guard = threading.Lock()
        self._uploading = threading.Lock()
        self._idle: list[tuple[ExitStack, Connection]] = []

    def close(self) -> None:
        """End the connections; nothing may run."""
        while self._idle:
            self._idle.pop()[0].close()

    def run(self, work: StageWork, context: StageContext, working: WorkingTree) -> StageRun:
        """Run a stage there and take its layer as that of *working*.

        Raises StageFailedError, CancelledError, PlaceError, KilnError, OSError.
        """
        request = self._request(work, context, working)

        def layer_to(outcome: Outcome) -> Path:
            # A layer comes as it is: nothing may be mounted over it. The tree of a failed stage comes whole.
            working.mounted.close()
            place = working.layer if outcome.success else working.tree
            context.store.throw_away(place)
            return place

        with self._connection(context, work) as connection:
            # One at a time: what two stages lack is sent once, and they share the same line anyway.
            with self._uploading:
                need = connection.ask(request)
                sent = connection.supply(need, self._outbox)
            if sent.layers or sent.files:
                text = f"{sent.layers} layers and {sent.files} files ({sent.sent_bytes / MEGABYTE:.1f} MB)"
                context.sink.emit(Notice("info", f"sent {text} to {self._host.name} for {work.stage.type}"))
            outcome = connection.finish(context.sink, layer_to)
        run = StageRun(
            work.pipeline.name,
            work.stage.type,
            work.stage.id,
            outcome.seconds,
            False,
            outcome.output,
            outcome.metadata if isinstance(outcome.metadata, dict) else None,
            self._host.name,
        )
        if not outcome.success:
            raise _failure(outcome, run)
        return run

    def _request(self, work: StageWork, context: StageContext, working: WorkingTree) -> JobRequest:
        layers = self._outbox.layers
        inputs = [entry for entry in work.stage.inputs if entry.origin == ORIGIN_SOURCE]
        checksums = tuple(dict.fromkeys(checksum for entry in inputs for checksum in entry.references))
        return JobRequest(
            work.pipeline.name,
            work.pipeline.build,
            work.pipeline.source_epoch,
            work.stage,
            None if work.runner is None else work.runner.name,
            self._outbox.bundle(),
            # Not the base of the work: where that has too many layers, the tree stands on a flat copy of it.
            layers(working.base),
            None if work.build is None else layers(work.build),
            tuple(sorted((name, layers(ref)) for name, ref in work.trees.items())),
            checksums,
            tuple(sorted((checksum, context.sizes[checksum]) for checksum in checksums if checksum in context.sizes)),
            context.timeout_seconds,
            context.keep_failed is not None,
        )

    @contextmanager
    def _connection(self, context: StageContext, work: StageWork) -> Iterator[Connection]:
        """Yield an idle connection or a new one; one that has brought an error is ended."""
        with self._guard:
            held, connection = self._idle.pop() if self._idle else (ExitStack(), None)
        with held:
            if connection is None:
                connection = held.enter_context(connected(self._host, context.store.backend, context.cancel.fileno()))
            self._check(connection.worker, work)
            yield connection
            with self._guard:
                self._idle.append((held.pop_all(), connection))

    def _check(self, worker: WorkerHello, work: StageWork) -> None:
        """Refuse what would be another result there. Raises PlaceError."""
        problem = ""
        if worker.machine != platform.machine():
            problem = f"it is a machine of the kind {worker.machine}, not {platform.machine()}"
        elif work.build is None and worker.host != host_identity():
            problem = "the stage uses the host's programs, and the two hosts do not have the same system"
        if problem:
            raise PlaceError(
                "remote-unsuitable",
                f"the {work.name} cannot run on {self._host.name}: {problem}",
                lost=worker.machine != platform.machine(),
                hint="give its pipeline a build root, or run it on this machine",
            )


def _failure(outcome: Outcome, run: StageRun) -> StageFailedError:
    reason = outcome.reason if outcome.reason in REASONS else REASONS[0]
    return StageFailedError(
        reason,
        f"{outcome.message} on {run.host}",
        run=run,
        error=outcome.exception if isinstance(outcome.exception, dict) else None,
        detail=outcome.detail,
        hint=outcome.hint,
    )
