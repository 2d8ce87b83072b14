"""Services of a libdir: programs on the host that fetch sources and give stages inputs, devices and mounts.

A service is `<program> --service-id <id> --service-fd <n>`; calls and answers are packets on that socket. Closing it is
the signal to release everything and to end, which is also what happens when this process dies.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final

from kiln.engine.execution import packets
from kiln.engine.execution.observer import SERVICES
from kiln.engine.execution.packets import PacketServer
from kiln.errors import Domain, KilnError
from kiln.events.model import Output, Sink
from kiln.linux import process

KEPT_LINES: Final = 40
STOP_SECONDS: Final = 120.0
"""How long a service may write to disks and unmount when it is told to end."""


class ServiceError(KilnError):
    """A service has refused, or has ended without an answer. *exception* is what it said, as osbuild's JSON has it."""

    def __init__(self, uid: str, problem: str, exception: Mapping[str, Any] | None, detail: str) -> None:
        super().__init__(Domain.ENGINE, "service-failed", f"{uid}: {problem}", detail=detail)
        self.exception = exception or {"type": "exception", "data": {"type": "ServiceError", "value": problem}}


class CallCancelledError(Exception):
    """The build was ended while a service worked."""


class Service:
    """A running service; made by `started`."""

    def __init__(self, uid: str, sock: socket.socket, cancel: int | None, lines: deque[str]) -> None:
        self.uid = uid
        self._socket = sock
        self._cancel = cancel
        self._lines = lines

    def call(self, method: str, arguments: Any, *, server: PacketServer | None = None) -> Any:
        """Call a method and return its value; requests to *server* are answered meanwhile.

        Raises ServiceError, CallCancelledError.
        """
        try:
            packets.send(self._socket, {"type": "method", "data": {"name": method, "args": arguments}})
            while True:
                self._wait(server)
                data, descriptors = packets.receive(self._socket)
                packets.close(descriptors)
                if not data:
                    raise self._error("the service has ended without an answer")
                kind, content = _decode(data)
                if kind == "reply":
                    return content.get("reply")
                if kind == "exception":
                    raise self._exception(content)
                if kind != "signal":
                    raise self._error(f"the service sent {kind!r}, which nobody knows")
        except (OSError, ValueError) as error:
            raise self._error(f"the service cannot be talked to: {error}") from None

    def _wait(self, server: PacketServer | None) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            if self._cancel is not None:
                selector.register(self._cancel, selectors.EVENT_READ)
            if server is not None:
                for known in (*server.listeners, *server.clients):
                    selector.register(known, selectors.EVENT_READ)
            while True:
                ready = {key.fd: key.fileobj for key, _ in selector.select()}
                if self._cancel in ready:
                    raise CallCancelledError
                for descriptor, entry in ready.items():
                    if server is None or not isinstance(entry, socket.socket) or entry is self._socket:
                        continue
                    if entry in server.listeners:
                        client = server.accept(entry)
                        if client is not None:
                            selector.register(client, selectors.EVENT_READ)
                    elif server.receive(entry) == "closed":
                        selector.unregister(descriptor)
                if self._socket.fileno() in ready:
                    return

    def _exception(self, content: Mapping[str, Any]) -> ServiceError:
        name, value = str(content.get("name", "Exception")), str(content.get("value", ""))
        backtrace = str(content.get("backtrace", ""))
        exception = {"type": "exception", "data": {"type": name, "value": value, "traceback": backtrace}}
        return self._error(f"{name}: {value}", exception, backtrace)

    def _error(self, problem: str, exception: Mapping[str, Any] | None = None, backtrace: str = "") -> ServiceError:
        detail = "\n".join(part for part in (backtrace.rstrip("\n"), *self._lines) if part)
        return ServiceError(self.uid, problem, exception, detail)


@contextmanager
def started(uid: str, program: Path, *, runtime: Path, sink: Sink, cancel: int | None = None) -> Iterator[Service]:
    """Start a service in the mount namespace of this thread; when the block is left, it has released everything.

    *runtime* is the directory that holds the package `osbuild`. *cancel* is a descriptor that becomes readable when
    waiting is to end. Raises ServiceError, also for a service that could not release what it held.
    """
    if not os.access(program, os.X_OK):
        raise ServiceError(uid, f"{program} is missing or not executable", None, "")
    environment = {**os.environ, "PYTHONPATH": str(runtime), "PYTHONUNBUFFERED": "1"}
    lines: deque[str] = deque(maxlen=KEPT_LINES)
    with ExitStack() as held:
        ours, theirs = packets.new_pair()
        held.callback(ours.close)
        with theirs:
            child = held.enter_context(
                process.spawn(
                    [str(program), "--service-id", uid, "--service-fd", str(theirs.fileno())],
                    env=environment,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),),
                )
            )
        assert child.stdout is not None  # noqa: S101 - asked for as a pipe
        reader = threading.Thread(target=_forward, args=(child.stdout, f"{uid} ({program.name}): ", sink, lines))
        reader.start()
        held.callback(reader.join)
        service = Service(uid, ours, cancel, lines)
        well = False
        try:
            yield service
            well = True
        finally:
            ours.close()
            try:
                status = child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.end_group(child, grace_seconds=0)
                status = child.wait()
            # What a service left running would keep the reader waiting for the end of the output.
            process.end_group(child, grace_seconds=0)
            reader.join()
        if well and status != 0:
            raise ServiceError(uid, f"the service ended with status {status}", None, "\n".join(lines))


def _forward(stream: IO[bytes], prefix: str, sink: Sink, lines: deque[str]) -> None:
    for line in stream:
        text = line.decode("utf-8", "replace").rstrip("\n")
        lines.append(text)
        sink.emit(Output(SERVICES, f"{prefix}{text}\n"))


def _decode(data: bytes) -> tuple[str, Mapping[str, Any]]:
    document = json.loads(data)
    kind = document.get("type") if isinstance(document, dict) else None
    content = document.get("data") if isinstance(document, dict) else None
    if not isinstance(kind, str) or not isinstance(content, dict):
        raise ValueError("a message without type or data")  # noqa: TRY004 - it is about the text, not about a type
    return kind, content
