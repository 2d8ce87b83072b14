"""Running a program in a sandbox that bubblewrap makes for it alone."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO

from kiln.engine.execution.packets import PacketServer
from kiln.engine.execution.supervise import CHUNK_BYTES, STAGE_UMASK, Ended, supervise
from kiln.linux import process
from kiln.linux.confinement import UNCONFINED, Confinement
from kiln.linux.sandbox import Sandbox


def run_sandboxed(
    sandbox: Sandbox,
    command: Sequence[str],
    *,
    on_output: Callable[[bytes], None],
    server: PacketServer | None,
    timeout_seconds: float | None,
    cancel: int,
    confinement: Confinement = UNCONFINED,
) -> Ended:
    """Run *command* in *sandbox* to the end of everything in it; the arguments are those of `supervise`.

    Raises KilnError(HOST, ...). Where a control group does not take the sandbox, the output says so.
    """
    started = time.monotonic()
    argv = sandbox.argv(command, bwrap=process.find_program("bwrap"))
    with ExitStack() as held:
        output, output_end = _pipe(held)
        info, info_end = _pipe(held)
        arguments, passed = _filter(confinement, held)
        bwrap = held.enter_context(
            process.spawn(
                confinement.entering([argv[0], "--info-fd", str(info_end.fileno()), *arguments, *argv[1:]]),
                env=sandbox.environment,
                stdout=output_end,
                stderr=subprocess.STDOUT,
                pass_fds=(info_end.fileno(), *passed),
                umask=STAGE_UMASK,
            )
        )
        output_end.close()
        info_end.close()
        inside = _first_process(info, held)
        ended = os.pidfd_open(bwrap.pid)
        held.callback(os.close, ended)
        return supervise(
            _Bubblewrap(bwrap, ended, inside),
            output,
            started=started,
            on_output=on_output,
            server=server,
            timeout_seconds=timeout_seconds,
            cancel=cancel,
        )


@dataclass(frozen=True, slots=True)
class _Bubblewrap:
    """bubblewrap outside and, where it is known, the first process *inside*, both as descriptors of processes."""

    bwrap: subprocess.Popen[bytes]
    ended: int
    inside: int | None

    def kill(self) -> None:
        """End everything in the sandbox."""
        if self.inside is not None:
            # Ending bubblewrap is not enough: right after its start it may not have tied its child to itself.
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.inside, signal.SIGKILL)
        process.end_group(self.bwrap, grace_seconds=process.GRACE_SECONDS)

    def wait(self) -> int:
        """Return the status once everything has ended: bubblewrap ends before what the stage left running does."""
        status = self.bwrap.wait()
        if self.inside is not None:
            with selectors.PollSelector() as selector:
                selector.register(self.inside, selectors.EVENT_READ)
                selector.select()
        return status


def _filter(confinement: Confinement, held: ExitStack) -> tuple[list[str], list[int]]:
    """Return bubblewrap's arguments for the filter of system calls, and the descriptors that it needs."""
    if not confinement.seccomp:
        return [], []
    filter_ = confinement.filter_file()
    held.callback(os.close, filter_)
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


def _pipe(held: ExitStack) -> tuple[int, IO[bytes]]:
    """Return a pipe: the descriptor to read from and the file to write to, which may be closed before its time."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    held.callback(os.close, reading)
    return reading, held.enter_context(os.fdopen(writing, "wb", buffering=0))
