"""The server: one request, one stage.

It takes packets from the socket that is its standard input. A request comes with descriptors: the socket for replies,
the stage's output, the program, a filter of system calls and a control group (or any file in their place), then the
mounts. Replies are

    {"started": true, "waits": ...} with a pidfd of the first process of the sandbox; one that waits to be put into its
                      groups goes on after a packet
    {"failed": "..."} where the sandbox could not be made
    {"status": n}     the end of everything in it; n is the exit status, or 128 + signal
"""

from __future__ import annotations

import array
import gc
import json
import os
import posixpath
import select
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any, NoReturn

from . import kernel, programs, sandbox

MAX_REQUEST_BYTES = 1024 * 1024
MAX_DESCRIPTORS = 253
FAILED_STATUS = 125


def main(interpreter: str, runtime_modules: Sequence[str]) -> None:
    """Serve until the other side closes the socket. *interpreter* is this Python's path."""
    control = socket.socket(fileno=os.dup(0))
    quiet = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(quiet, 0)
    os.close(quiet)
    before = _held()
    for name in runtime_modules:
        programs.preload(name)
    # A stage finds no more modules than in an interpreter of its own.
    for name in [name for name in sys.modules if name.partition(".")[0] == __package__]:
        del sys.modules[name]
    # A runtime that opens files or starts threads when it is loaded must be loaded by each stage for itself.
    clean = _held() == before and threading.active_count() == 1
    control.send(json.dumps({"ready": clean}).encode())
    if clean:
        _Server(control, programs.Programs(interpreter)).run()


def _held() -> int:
    return len(os.listdir("/proc/self/fd"))


@dataclass
class _Request:
    """Everything is worked out before the fork, in which every touched page is copied."""

    command: list[str]
    directory: str
    mounts: sandbox.Described
    capabilities: kernel.Capabilities
    environment: dict[str, str] | None
    umask: int
    wait: bool
    code: CodeType | None
    filter: bytes
    reply: int
    output: int
    trees: list[int]


_NO_CAPABILITIES = kernel.Capabilities(0)


class _Server:
    def __init__(self, control: socket.socket, known: programs.Programs) -> None:
        self._control = control
        self._programs = known
        self._own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._running: dict[int, tuple[int, socket.socket]] = {}
        self._poll = select.poll()
        self._capabilities: dict[int, kernel.Capabilities] = {}

    def run(self) -> None:
        """Serve until the end."""
        self._poll.register(self._control, select.POLLIN)
        gc.collect()
        gc.freeze()
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor in self._running:
                    self._reap(descriptor)
                elif not self._serve():
                    return

    def _serve(self) -> bool:
        data, descriptors = _receive(self._control)
        if not data:
            return False
        try:
            self._start(json.loads(data), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _start(self, document: dict[str, Any], descriptors: Sequence[int]) -> None:
        reply = socket.socket(fileno=os.dup(descriptors[0]))
        try:
            request = self._prepare(document, descriptors)
            pid = self._fork(request, descriptors[4] if document["group"] else None)
            pidfd = os.pidfd_open(pid)
            self._running[pidfd] = (pid, reply)
            self._poll.register(pidfd, select.POLLIN)
            _send(reply, {"started": True, "waits": request.wait}, pidfd)
        except OSError as error:
            _send(reply, {"failed": str(error)})
            reply.close()

    def _fork(self, request: _Request, group: int | None) -> int:
        if group is not None:
            waits, request.wait = request.wait, False
            try:
                pid = kernel.fork_into(group)
                if pid == 0:
                    _first(request)
                return pid
            except OSError:
                request.wait = waits  # the other side puts it into the group
        kernel.unshare(kernel.CLONE_NEWPID)
        try:
            pid = kernel.fork()
            if pid == 0:
                _first(request)
        finally:
            kernel.enter_namespace(self._own, kernel.CLONE_NEWPID)
        return pid

    def _prepare(self, document: dict[str, Any], descriptors: Sequence[int]) -> _Request:
        before = _held()
        mask = document["capabilities"]
        if mask not in self._capabilities:
            self._capabilities[mask] = kernel.Capabilities(mask)
        code = self._programs.load(descriptors[2], document["command"][0])
        if _held() != before or threading.active_count() != 1:
            # What a module of the runtime left in this process, every later stage would have: this one ends.
            raise SystemExit(1)
        return _Request(
            command=document["command"],
            directory=document["directory"],
            mounts=document["mounts"],
            capabilities=self._capabilities[mask],
            environment=None if document["environment"] == dict(os.environ) else document["environment"],
            umask=document["umask"],
            wait=document["wait"],
            code=code,
            filter=os.read(descriptors[3], MAX_REQUEST_BYTES) if document["filter"] else b"",
            reply=descriptors[0],
            output=descriptors[1],
            trees=list(descriptors[5:]),
        )

    def _reap(self, pidfd: int) -> None:
        pid, reply = self._running.pop(pidfd)
        self._poll.unregister(pidfd)
        _, status = os.waitpid(pid, 0)
        os.close(pidfd)
        _send(reply, {"status": _status(status)})
        reply.close()


def _first(request: _Request) -> NoReturn:
    """Be the first process of a new sandbox."""
    status = FAILED_STATUS
    try:
        try:
            if request.wait and not os.read(request.reply, 1):
                os._exit(status)
            os.umask(request.umask)
            sandbox.enter(request.mounts, request.trees)
            os.chdir(request.directory)
            kernel.forbid_new_privileges()
            null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            request.capabilities.take()
            if request.filter:
                kernel.filter_system_calls(request.filter)
            pid = kernel.fork()
        except Exception as error:
            failed = json.dumps({"failed": f"{type(error).__name__}: {error}"}).encode()
            os.write(request.reply, failed)
            os._exit(status)
        if pid == 0:
            _stage(request, null)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        kernel.set_name("init")
        _NO_CAPABILITIES.take()
        kernel.close_from(0)
        status = _wait(pid)
    finally:
        os._exit(status)


def _wait(wanted: int) -> int:
    """Take the end of every process that has lost its parent, until the stage's comes."""
    while True:
        pid, status = os.wait()
        if pid == wanted:
            return _status(status)


def _status(status: int) -> int:
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _stage(request: _Request, null: int) -> NoReturn:
    """Be the stage."""
    status = 1
    try:
        os.dup2(null, 0)
        os.dup2(request.output, 1)
        os.dup2(request.output, 2)
        kernel.close_from(3)
        request.capabilities.verify()
        command = request.command
        if request.environment is not None:
            _set_environment(request.environment)
        kernel.set_name(posixpath.basename(command[0]))
        if request.code is not None:
            status = programs.run(request.code, command)
        else:
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.execv(command[0], command)
    except OSError as error:
        os.write(2, f"sandbox: execvp {request.command[0]}: {error.strerror or error}\n".encode())
    finally:
        os._exit(status)


def _set_environment(environment: dict[str, str]) -> None:
    for name in [name for name in os.environ if name not in environment]:
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    numbers = array.array("i")
    space = socket.CMSG_SPACE(MAX_DESCRIPTORS * numbers.itemsize)
    data, ancillary, _, _ = sock.recvmsg(MAX_REQUEST_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return data, list(numbers)


def _send(sock: socket.socket, document: object, *descriptors: int) -> None:
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
    try:
        sock.sendmsg([json.dumps(document).encode()], ancillary)
    except OSError:
        return  # nobody listens any more
