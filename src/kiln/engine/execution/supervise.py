"""Running one program in a sandbox: its output as it comes, its messages, its time limit, and its certain end."""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO, Final, Literal

from kiln.engine.execution.packets import PacketServer
from kiln.linux import process
from kiln.linux.confinement import UNCONFINED, Confinement

CHUNK_BYTES: Final = 65536

How = Literal["exited", "timeout", "cancelled"]


STAGE_UMASK: Final = 0o022
"""Modes of files in an image must not depend on who builds it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended; *status* is that of bubblewrap: the program's own, or 128 + signal."""

    how: How
    status: int
    seconds: float


def supervise(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    on_output: Callable[[bytes], None],
    server: PacketServer | None,
    timeout_seconds: float | None,
    cancel: int,
    confinement: Confinement = UNCONFINED,
) -> Ended:
    """Run bubblewrap (argv[0]) to the end of everything in its sandbox.

    *cancel* is a descriptor that becomes readable when the program is to be ended.
    Raises KilnError(HOST, ...). Where a control group does not take the sandbox, the output says so.
    """
    started = time.monotonic()
    with ExitStack() as held:
        output, output_end = _pipe(held)
        info, info_end = _pipe(held)
        arguments, passed = _filter(confinement, held)
        child = held.enter_context(
            process.spawn(
                confinement.entering([argv[0], "--info-fd", str(info_end.fileno()), *arguments, *argv[1:]]),
                env=environment,
                stdout=output_end,
                stderr=subprocess.STDOUT,
                pass_fds=(info_end.fileno(), *passed),
                umask=STAGE_UMASK,
            )
        )
        output_end.close()
        info_end.close()
        os.set_blocking(output, False)
        inside = _first_process(info, held)
        deadline = None if timeout_seconds is None else started + timeout_seconds
        how = _Loop(output, on_output, server).run(child.pid, deadline, cancel)
        if how != "exited":
            if inside is not None:
                # Ending bubblewrap is not enough: right after its start it may not have tied its child to itself.
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(inside, signal.SIGKILL)
            process.end_group(child, grace_seconds=process.GRACE_SECONDS)
        status = child.wait()
        # bubblewrap ends with the stage; what the stage left running is killed then, but may still write for a moment.
        if inside is not None:
            _await(inside)
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

    def run(self, pid: int, deadline: float | None, cancel: int) -> How:
        with ExitStack() as held:
            ended = os.pidfd_open(pid)
            held.callback(os.close, ended)
            selector = held.enter_context(selectors.DefaultSelector())
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


def _filter(confinement: Confinement, held: ExitStack) -> tuple[list[str], list[int]]:
    """Return bubblewrap's arguments for the filter of system calls, and the descriptors that it needs."""
    if not confinement.seccomp:
        return [], []
    filter_ = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    held.callback(os.close, filter_)
    os.write(filter_, confinement.seccomp)
    os.lseek(filter_, 0, os.SEEK_SET)
    return ["--seccomp", str(filter_)], [filter_]


def _first_process(info: int, held: ExitStack) -> int | None:
    """Return a descriptor of the sandbox's process 1, whose end is the end of everything inside."""
    text = b""
    while piece := os.read(info, CHUNK_BYTES):
        text += piece
    try:
        descriptor = os.pidfd_open(json.loads(text)["child-pid"])
    except (ValueError, KeyError, TypeError, ProcessLookupError):
        return None
    held.callback(os.close, descriptor)
    return descriptor


def _await(descriptor: int) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        selector.select()


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


def _pipe(held: ExitStack) -> tuple[int, IO[bytes]]:
    """Return a pipe: the descriptor to read from and the file to write to, which may be closed before its time."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    held.callback(os.close, reading)
    return reading, held.enter_context(os.fdopen(writing, "wb", buffering=0))
