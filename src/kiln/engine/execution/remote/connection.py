"""One worker from the client's side: the handshake, and one job after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import kiln
from kiln.engine.execution.places import PlaceError
from kiln.engine.execution.remote.address import RemoteHost
from kiln.engine.execution.remote.documents import (
    PROTOCOL,
    ClientHello,
    JobRequest,
    Need,
    Outcome,
    Refusal,
    WorkerHello,
    read_as,
    read_event,
)
from kiln.engine.execution.remote.errors import ConnectionLostError, protocol_error
from kiln.engine.execution.remote.frames import Channel, DataReader, DataWriter, Kind, WokenError
from kiln.engine.execution.remote.ssh import SshProcess, started
from kiln.engine.execution.work import CancelledError
from kiln.engine.objects.model import Backend
from kiln.engine.objects.stream.reading import read_layer
from kiln.engine.objects.stream.writing import write_layer
from kiln.errors import Domain, KilnError
from kiln.events.model import Sink
from kiln_wire.codec import encode

COPY_BYTES: Final = 1024 * 1024
NEVER: Final = ("remote-version", "remote-unsuitable", "remote-protocol")
"""Refusals of the engine's own that hold for every stage."""


class Provider(Protocol):
    """Whoever has what a worker may lack."""

    def layer(self, digest: str) -> Path:
        """Return the directory of a layer."""

    def file(self, checksum: str) -> Path:
        """Return a source file."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What a job had to send, and what came back, in bytes of streams."""

    layers: int
    files: int
    sent_bytes: int


class Connection:
    """A worker that is ready; made by `connected`. For one thread at a time."""

    def __init__(self, channel: Channel, ssh: SshProcess, worker: WorkerHello) -> None:
        self.worker = worker
        self._channel = channel
        self._ssh = ssh

    def ask(self, request: JobRequest) -> Need:
        """Name a job; returns what the worker lacks for it. Raises PlaceError, CancelledError, KilnError."""
        with self._talking():
            self._channel.send_document(Kind.JOB, encode(request))
            need = read_as(Need, self._expect(Kind.NEED))
            for wanted, offered in ((need.layers, request.layers()), (need.files, request.files)):
                # What was not offered is nobody's business: a name could be a path out of the store.
                if len(set(wanted)) < len(wanted) or not set(wanted) <= set(offered):
                    raise protocol_error("the worker asks for what the job does not name")
            return need

    def supply(self, need: Need, provider: Provider) -> Sent:
        """Send what is lacking; once it is all there, the worker runs the job. Raises as `ask` does."""
        total = 0
        with self._talking():
            for digest in need.layers:
                total += self._send(write_layer, provider.layer(digest))
            for checksum in need.files:
                total += self._send(_write_file, provider.file(checksum))
            self._expect(Kind.READY)
        return Sent(len(need.layers), len(need.files), total)

    def finish(self, sink: Sink, layer_to: Callable[[Outcome], Path]) -> Outcome:
        """Wait for the end of the job and take its layer, which must have the digest that the outcome says.

        *layer_to* gives the directory to be made where there is one. Raises as `ask` does.
        """
        with self._talking():
            while True:
                kind, payload = self._channel.expect(Kind.EVENT, Kind.OUTCOME, Kind.REFUSAL)
                if kind is Kind.EVENT:
                    sink.emit(read_event(payload))
                    continue
                if kind is Kind.REFUSAL:
                    raise _refused(self._ssh.host, payload)
                outcome = read_as(Outcome, payload)
                if outcome.layer is not None:
                    reader = DataReader(self._channel)
                    read_layer(reader.read, layer_to(outcome), outcome.layer)
                    reader.finish()
                return outcome

    def _send(self, write: Callable[[Path, Callable[[bytes], object]], object], path: Path) -> int:
        writer = DataWriter(self._channel)
        write(path, writer.write)
        writer.finish()
        return writer.written

    def _expect(self, kind: Kind) -> bytes:
        found, payload = self._channel.expect(kind, Kind.REFUSAL)
        if found is Kind.REFUSAL:
            raise _refused(self._ssh.host, payload)
        return payload

    @contextmanager
    def _talking(self) -> Iterator[None]:
        with _explained(self._ssh):
            yield


@contextmanager
def connected(host: RemoteHost, backend: Backend, cancel: int) -> Iterator[Connection]:
    """Start a worker and make its acquaintance; its end is that of the block.

    *cancel* is a descriptor that ends all waiting. Raises PlaceError, CancelledError, KilnError.
    """
    with started(host) as ssh:
        channel = Channel(ssh.reading, ssh.writing, host.silence_seconds, cancel)
        try:
            with _explained(ssh):
                hello = ClientHello(PROTOCOL, kiln.__version__, backend, host.silence_seconds)
                channel.send_document(Kind.HELLO, encode(hello))
                kind, payload = channel.expect(Kind.HELLO, Kind.REFUSAL)
                if kind is Kind.REFUSAL:
                    raise _refused(host, payload)
                worker = read_as(WorkerHello, payload)
            channel.start_pinging()
            yield Connection(channel, ssh, worker)
        finally:
            channel.close()


@contextmanager
def _explained(ssh: SshProcess) -> Iterator[None]:
    """Make what the channel raises into errors that say which host they are about."""
    try:
        yield
    except WokenError:
        raise CancelledError from None
    except ConnectionLostError as error:
        raise ssh.lost(str(error)) from None
    except KilnError as error:
        if error.reason not in ("remote-protocol", "damaged-stream") or isinstance(error, PlaceError):
            raise
        raise ssh.lost(error.message) from error


def _refused(host: RemoteHost, payload: bytes) -> PlaceError:
    """Return what a worker refused with; only what is wrong with the stage itself leaves the host usable."""
    refusal = read_as(Refusal, payload)
    return PlaceError(
        "remote-refused",
        f"the remote host {host.name} refuses the work ({refusal.domain}/{refusal.reason}): {refusal.message}",
        lost=refusal.domain in (Domain.HOST.value, Domain.STORE.value) or refusal.reason in NEVER,
        detail=refusal.detail,
        hint=refusal.hint,
        retriable=True,
    )


def _write_file(path: Path, write: Callable[[bytes], object]) -> None:
    with path.open("rb") as file:
        while piece := file.read(COPY_BYTES):
            write(piece)
