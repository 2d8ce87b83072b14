"""The worker: runs stages for one client, until the client's stream ends.

It is started by whoever may log in as this account, and does what that client says: it is no border between the two.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

import kiln
from kiln.engine.execution.build import explained
from kiln.engine.execution.cancel import Cancel
from kiln.engine.execution.confine import HostConfiner
from kiln.engine.execution.fork_launch import ForkLauncher
from kiln.engine.execution.keys import host_identity
from kiln.engine.execution.local import LocalRunner
from kiln.engine.execution.remote.documents import (
    PROTOCOL,
    ClientHello,
    JobRequest,
    Need,
    Outcome,
    Refusal,
    WorkerHello,
    read_as,
)
from kiln.engine.execution.remote.errors import ConnectionLostError, protocol_error
from kiln.engine.execution.remote.frames import Channel, DataReader, DataWriter, Kind, WokenError, read_document
from kiln.engine.execution.remote.stage_here import StageHere
from kiln.engine.execution.remote.worker_store import WorkerStore
from kiln.engine.execution.work import CancelledError
from kiln.engine.objects.store import ObjectStore
from kiln.engine.objects.stream.writing import write_layer
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux import mounts
from kiln.linux.cgroups import Limits
from kiln_wire.codec import encode

DEFAULT_STORE: Final = Path("/var/cache/kiln-worker")
HELLO_SECONDS: Final = 60.0
"""How long a client may take to say who it is."""


class Maximum(Protocol):
    """A largest size of a store."""

    @property
    def bytes(self) -> int | None:
        """The size, None for no limit."""


def serve(store: Path, reading: int, writing: int, *, limits: Limits, maximum: Maximum | None = None) -> ExitStatus:
    """Serve the client on the other side of two descriptors until it goes.

    *limits* hold for each stage. *maximum* is the largest size of the store from now on; None leaves it as it is.
    """
    channel = Channel(reading, writing, HELLO_SECONDS)
    try:
        try:
            _Worker(channel, store, limits, maximum).run()
        except KilnError as error:
            channel.send_document(Kind.REFUSAL, encode(_refusal(error)))
            return ExitStatus.INFRASTRUCTURE
        except OSError as error:
            channel.send_document(Kind.REFUSAL, encode(Refusal(Domain.HOST.value, "system", str(error), "", "", True)))
            return ExitStatus.INFRASTRUCTURE
    except ConnectionLostError:
        return ExitStatus.OK  # the client has what it wanted, or has gone for another reason
    finally:
        channel.close()
    return ExitStatus.OK


@contextmanager
def standard_streams() -> Iterator[tuple[int, int]]:
    """Yield copies of standard input and output for frames; what is printed meanwhile goes to standard error."""
    reading, writing = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(null, 0)
        os.dup2(2, 1)
        yield reading, writing
    finally:
        for descriptor in (null, reading, writing):
            os.close(descriptor)


class _Worker:
    """One client."""

    def __init__(self, channel: Channel, root: Path, limits: Limits, maximum: Maximum | None) -> None:
        self._channel = channel
        self._root = root
        self._limits = limits
        self._maximum = maximum

    def run(self) -> None:
        """Serve until the connection is lost. Raises ConnectionLostError, KilnError, OSError."""
        _, payload = self._channel.expect(Kind.HELLO)
        document = read_document(payload)
        if not isinstance(document, dict) or document.get("protocol") != PROTOCOL:
            found = document.get("protocol") if isinstance(document, dict) else None
            raise KilnError(
                Domain.ENGINE,
                "remote-version",
                f"the worker (Kiln {kiln.__version__}) speaks version {PROTOCOL} of the protocol, the client {found}",
                hint="install the same Kiln on both hosts",
                exit_status=ExitStatus.INFRASTRUCTURE,
            )
        hello = read_as(ClientHello, payload)
        _check_host()
        with ObjectStore(self._root, backend="copy" if hello.backend == "copy" else "auto") as store:
            if store.backend != hello.backend:
                raise KilnError(
                    Domain.ENGINE,
                    "remote-unsuitable",
                    f"trees cannot be layers in {store.root} on the remote host, as they are on the client",
                    hint="give the worker a --store on a file system that an overlay can be mounted on",
                    exit_status=ExitStatus.INFRASTRUCTURE,
                )
            if self._maximum is not None:
                store.set_maximum(self._maximum.bytes)
            self._channel.silence_seconds = hello.silence_seconds
            answer = WorkerHello(PROTOCOL, kiln.__version__, platform.machine(), host_identity())
            self._channel.send_document(Kind.HELLO, encode(answer))
            self._channel.start_pinging()
            limits = replace(self._limits, disk=store.root.stat().st_dev)
            # One thread for all stages: fork servers end with the thread that has started them.
            with (
                ThreadPoolExecutor(1, "stage", mounts.private_namespace) as pool,
                closing(ForkLauncher()) as launcher,
            ):
                try:
                    pool.submit(os.getpid).result()
                except BrokenExecutor as error:
                    raise explained(error) from None
                here = StageHere(WorkerStore(store), self._channel, HostConfiner(limits), LocalRunner(launcher))
                while True:
                    _, payload = self._channel.expect(Kind.JOB)
                    self._serve(read_as(JobRequest, payload), here, pool)

    def _serve(self, request: JobRequest, here: StageHere, pool: Executor) -> None:
        worker_store = here.worker_store
        need = worker_store.lacking(request)
        if worker_store.store.lookup(request.digest()) is not None:
            need = Need((), ())  # nothing will run
        self._channel.send_document(Kind.NEED, encode(need))
        for digest in need.layers:
            reader = DataReader(self._channel)
            worker_store.receive_layer(digest, reader.read)
            reader.finish()
        for checksum in need.files:
            reader = DataReader(self._channel)
            worker_store.receive_file(checksum, reader.read)
            reader.finish()
        self._channel.send(Kind.READY)
        outcome, layer = self._run(request, here, pool)
        self._channel.send_document(Kind.OUTCOME, encode(outcome))
        if layer is not None:
            writer = DataWriter(self._channel)
            write_layer(layer, writer.write)
            writer.finish()

    def _run(self, request: JobRequest, here: StageHere, pool: Executor) -> tuple[Outcome, Path | None]:
        """Run a job beside listening: the end of the client's stream ends the stage."""
        done = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

        def run(cancel: Cancel) -> tuple[Outcome, Path | None]:
            try:
                return here.run(request, cancel)
            finally:
                os.eventfd_write(done, 1)

        try:
            with Cancel() as cancel:
                future = pool.submit(run, cancel)
                try:
                    kind, _ = self._channel.receive(watch=done)
                    raise protocol_error(f"{kind.name} came while a stage ran")
                except WokenError:
                    return future.result()
                except BaseException:
                    cancel.set()
                    with suppress(CancelledError, KilnError, OSError):
                        future.result()  # what is said now is that nobody listens
                    raise
        finally:
            os.close(done)


def _check_host() -> None:
    if os.geteuid() != 0:
        raise KilnError(
            Domain.HOST,
            "not-root",
            "the worker's account is not root: sandboxes and layers are mounted",
            hint="log in as root, or let the account use sudo: ?command=sudo -n kiln-osbuild --worker",
            exit_status=ExitStatus.INFRASTRUCTURE,
        )


def _refusal(error: KilnError) -> Refusal:
    return Refusal(error.domain.value, error.reason, error.message, error.detail, error.hint, error.retriable)
