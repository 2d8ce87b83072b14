"""Following one program in a sandbox: its output as it comes, its messages, its time limit, and its certain end."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from kiln.engine.execution.packets import PacketServer

CHUNK_BYTES: Final = 65536
STAGE_UMASK: Final = 0o022
"""Modes of files in an image must not depend on who builds it."""

How = Literal["exited", "timeout", "cancelled"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended; *status* is the program's own, or 128 + signal."""

    how: How
    status: int
    seconds: float


class Child(Protocol):
    """A program that was started in a sandbox."""

    @property
    def ended(self) -> int:
        """A descriptor that becomes readable when the program has ended."""

    def kill(self) -> None:
        """End everything in the sandbox, whatever it does about it."""

    def wait(self) -> int:
        """Return the status once nothing in the sandbox runs any more. Raises KilnError."""


def supervise(
    child: Child,
    output: int,
    *,
    started: float,
    on_output: Callable[[bytes], None],
    server: PacketServer | None,
    timeout_seconds: float | None,
    cancel: int,
) -> Ended:
    """Follow *child* to the end of everything in its sandbox.

    *output* is the reading end of its output, *started* when it was started (monotonic clock, seconds), *cancel* a
    descriptor that becomes readable when it is to be ended. Raises KilnError.
    """
    os.set_blocking(output, False)
    deadline = None if timeout_seconds is None else started + timeout_seconds
    how: How = "cancelled"
    try:
        how = _Loop(output, on_output, server).run(child.ended, deadline, cancel)
    finally:
        if how != "exited":
            child.kill()
    status = child.wait()
    # What the stage left running is killed with its sandbox, but may have written until then.
    _read_rest(output, on_output)
    if server is not None:
        server.drain()
    return Ended(how, status, time.monotonic() - started)


@dataclass(slots=True)
class _Loop:
    """Waits for everything that can happen while the program runs."""

    output: int
    on_output: Callable[[bytes], None]
    server: PacketServer | None

    def run(self, ended: int, deadline: float | None, cancel: int) -> How:
        with ExitStack() as held:
            selector = held.enter_context(selectors.PollSelector())
            for descriptor in (ended, cancel, self.output):
                selector.register(descriptor, selectors.EVENT_READ)
            if self.server is not None:
                for listener in self.server.listeners:
                    selector.register(listener, selectors.EVENT_READ)
            while True:
                wait = None if deadline is None else deadline - time.monotonic()
                if wait is not None and wait <= 0:
                    return "timeout"
                ready = {key.fd: key.fileobj for key, _ in selector.select(wait)}
                if cancel in ready:
                    return "cancelled"
                self._handle(ready, selector)
                if ended in ready:
                    return "exited"

    def _handle(self, ready: Mapping[int, object], selector: selectors.BaseSelector) -> None:
        for descriptor, file in ready.items():
            if descriptor == self.output:
                if not _forward(self.output, self.on_output):
                    selector.unregister(self.output)
            elif isinstance(file, socket.socket) and self.server is not None:
                if file in self.server.listeners:
                    client = self.server.accept(file)
                    if client is not None:
                        selector.register(client, selectors.EVENT_READ)
                elif self.server.receive(file) == "closed":
                    # A closed socket has no descriptor; the selector knows it by the one that it had.
                    selector.unregister(descriptor)


def _forward(output: int, on_output: Callable[[bytes], None]) -> bool:
    """Pass on one piece of output; False at its end."""
    data = os.read(output, CHUNK_BYTES)
    if data:
        on_output(data)
    return bool(data)


def _read_rest(output: int, on_output: Callable[[bytes], None]) -> None:
    try:
        while _forward(output, on_output):
            pass
    except BlockingIOError:
        return
