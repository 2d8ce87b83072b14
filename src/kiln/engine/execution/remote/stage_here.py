"""A client's stage on the worker's host: the same run as everywhere, from layers by digest to a layer."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

from kiln.engine.execution.buildroot import Skeleton
from kiln.engine.execution.cancel import Cancel
from kiln.engine.execution.model import StageFailedError
from kiln.engine.execution.remote.bundle import bundled_libdir, bundled_runtime
from kiln.engine.execution.remote.documents import JobRequest, Outcome, event_document
from kiln.engine.execution.remote.errors import ConnectionLostError, protocol_error
from kiln.engine.execution.remote.frames import Channel, Kind
from kiln.engine.execution.remote.worker_store import WorkerStore
from kiln.engine.execution.stage import run_stage
from kiln.engine.execution.work import CancelledError, Confiner, StageContext, StageRunner, StageWork
from kiln.engine.manifest.modules import Modules
from kiln.engine.objects.stream.writing import layer_digest
from kiln.errors import KilnError
from kiln.events.model import Event, Output


class ChannelSink:
    """Sends events to the client; what nobody receives is dropped, the connection's end is noticed elsewhere."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def emit(self, event: Event) -> None:
        """Send *event*, if the client wants such."""
        document = event_document(event)
        if document is not None:
            with suppress(ConnectionLostError):
                self._channel.send_document(Kind.EVENT, document)


class StageHere:
    """Runs jobs one after another; what it finds out about build roots is kept between them."""

    def __init__(self, worker_store: WorkerStore, channel: Channel, confiner: Confiner, runner: StageRunner) -> None:
        self.worker_store = worker_store
        self._sink = ChannelSink(channel)
        self._confiner = confiner
        self._runner = runner
        self._bundle = ""
        self._skeletons: dict[str, Skeleton] = {}
        self._guard = threading.Lock()

    def run(self, request: JobRequest, cancel: Cancel) -> tuple[Outcome, Path | None]:
        """Run a job, or find its result; returns the outcome and the directory of the layer that goes with it.

        Everything that it needs is there. To be called in a thread with a mount namespace of its own.
        Raises CancelledError, KilnError, OSError.
        """
        store, job = self.worker_store.store, request.digest()
        try:
            with store.claim(job, cancelled=cancel.is_set):
                known = self.worker_store.result(job)
                if known is not None:
                    if known.output:
                        self._sink.emit(Output(request.stage.type, known.output, request.stage.id))
                    outcome = Outcome(True, known.layer, known.seconds, known.output, known.metadata, cached=True)
                    return outcome, store.layer(job)
                outcome, layer = self._run(request, cancel)
                if outcome.success:
                    self.worker_store.remember(job, outcome)
                return outcome, layer
        except KilnError as error:
            if error.reason == "busy" and cancel.is_set():
                raise CancelledError from None
            raise

    def _run(self, request: JobRequest, cancel: Cancel) -> tuple[Outcome, Path | None]:
        store = self.worker_store.store
        # What is kept of a build root between stages has the runtime of one libdir in it.
        self._bundle = self._bundle or request.bundle
        if request.bundle != self._bundle:
            raise protocol_error("a client has one libdir")
        bundle = self.worker_store.directory(request.bundle)
        modules = Modules(bundled_libdir(bundle))
        work = self._work(request, modules)
        context = StageContext(
            store,
            modules,
            bundled_runtime(bundle),
            self._sink,
            dict(request.sizes),
            request.timeout_seconds,
            cancel,
            store.directory("failed-") if request.keep_failed else None,
            confiner=self._confiner,
            skeletons=self._skeletons,
            guard=self._guard,
        )
        try:
            ref, run = run_stage(work, context, self._runner)
        except StageFailedError as error:
            return _failed(error, context.keep_failed), context.keep_failed
        metadata = None if run.metadata is None else dict(run.metadata)
        return Outcome(True, store.layer_digest(ref.key), run.seconds, run.output, metadata), store.layer(ref.key)

    def _work(self, request: JobRequest, modules: Modules) -> StageWork:
        module = modules.find(request.stage.kind, request.stage.type)
        runner = None if request.runner is None else modules.libdir / "runners" / request.runner
        if module is None or (request.runner is not None and "/" in request.runner):
            raise protocol_error(f"the libdir that was sent has no {request.stage.type}")
        return StageWork(
            request.pipeline_value(),
            request.stage,
            module,
            request.digest(),
            base=self.worker_store.tree(request.base),
            build=None if request.root is None else self.worker_store.tree(request.root),
            trees={name: self.worker_store.tree(layers) for name, layers in request.trees},
            runner=runner,
        )


def _failed(error: StageFailedError, tree: Path | None) -> Outcome:
    return Outcome(
        False,
        None if tree is None else layer_digest(tree),
        error.run.seconds,
        error.run.output,
        None if error.run.metadata is None else dict(error.run.metadata),
        reason=error.reason,
        message=error.message,
        detail=error.detail,
        hint=error.hint,
        exception=None if error.error is None else dict(error.error),
    )
