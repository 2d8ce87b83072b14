"""Fork servers: one sandbox for each build root, whose Python waits there and forks for every stage.

Starting bubblewrap and an interpreter takes most of the time of a small stage. The server (kiln.engine.inside) has done
both; a stage's own sandbox is made of the same description as bubblewrap's would be, out of mounts that are handed over
as descriptors, so that nothing else of this machine is within reach.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kiln.engine.execution import packets
from kiln.engine.execution.buildroot import MERGED
from kiln.engine.execution.prepare import Prepared
from kiln.engine.execution.supervise import STAGE_UMASK
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux import capabilities, detached, mounts, process
from kiln.linux.confinement import Confinement
from kiln.linux.sandbox import Mount, Sandbox

PROGRAMS: Final = Path(__file__).parents[1] / "inside"
PROGRAMS_INSIDE: Final = "/run/kiln/inside"
INTERPRETER: Final = "/usr/bin/python3"
RUNTIME_MODULES: Final = ("osbuild", "osbuild.api", "json", "subprocess")
"""What nearly every stage imports."""
NEEDED: Final = frozenset({"CAP_NET_ADMIN", "CAP_SETPCAP", "CAP_SYS_ADMIN"})
"""To make a sandbox: the loopback device, the capabilities of the stage, the mounts."""
START_SECONDS: Final = 20.0
REPLY_SECONDS: Final = 60.0
"""A server that does not even take a request has stopped."""
MAX_REQUEST_BYTES: Final = 64 * 1024
MAX_MOUNTS: Final = 200
SERVER_DEVICES: Final = ("null", "urandom")


class UnavailableError(Exception):
    """There is no fork server for this stage, or it could not make the sandbox; nothing of the stage has run."""


class ForkServer:
    """A running server; safe to use from several threads. Made in the thread whose mounts show the build root.

    bubblewrap ends with the *thread* that started it, as well as by `close`.
    """

    def __init__(self, prepared: Prepared) -> None:
        """Start a server in the build root of a stage. Raises UnavailableError."""
        self.capabilities = (prepared.sandbox.capabilities | NEEDED) & capabilities.permitted()
        if not self.capabilities >= NEEDED:
            raise UnavailableError("capabilities")
        _find_interpreter(prepared.root)
        self._held = ExitStack()
        try:
            self._control = self._start(prepared)
        except BaseException:
            self._held.close()
            raise

    def close(self) -> None:
        """End the server, and with it every stage that it has started."""
        self._held.close()

    def run(self, prepared: Prepared, confinement: Confinement, held: ExitStack) -> tuple[ForkedStage, int]:
        """Start the program of a stage; returns it and the reading end of its output. *held* ends both.

        Raises UnavailableError; OSError where a control group does not take the sandbox.
        """
        reply, theirs = packets.new_pair()
        held.callback(reply.close)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        held.callback(os.close, reading)
        with ExitStack() as sent:
            sent.callback(theirs.close)
            sent.callback(os.close, writing)
            program = os.open(prepared.program, os.O_RDONLY | os.O_CLOEXEC)
            sent.callback(os.close, program)
            filter_ = confinement.filter_file() if confinement.seccomp else os.dup(program)
            sent.callback(os.close, filter_)
            group = _only_group(confinement)
            entered = os.dup(program) if group is None else os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            sent.callback(os.close, entered)
            described, trees = _clone(prepared.sandbox.mounts, sent)
            request = {
                "mounts": described,
                "environment": {**prepared.sandbox.environment, "PWD": prepared.sandbox.directory},
                "directory": prepared.sandbox.directory,
                "capabilities": capabilities.encode(prepared.sandbox.capabilities),
                "command": list(prepared.command),
                "umask": STAGE_UMASK,
                "filter": bool(confinement.seccomp),
                "group": group is not None,
                "wait": bool(confinement.groups),
            }
            self._send(request, [theirs.fileno(), writing, program, filter_, entered, *trees])
        child = ForkedStage(reply, held)
        if child.waits:
            confinement.enter(child.pid())
            reply.send(b"1")
        return child, reading

    def _send(self, request: object, descriptors: Sequence[int]) -> None:
        data = json.dumps(request).encode()
        if len(data) > MAX_REQUEST_BYTES or len(descriptors) > packets.MAX_DESCRIPTORS:
            raise UnavailableError("the stage has too many mounts")
        try:
            socket.send_fds(self._control, [data], list(descriptors))
        except OSError as error:
            raise UnavailableError(f"the server is gone: {error}") from None

    def _start(self, prepared: Prepared) -> socket.socket:
        ours, theirs = packets.new_pair()
        self._held.callback(ours.close)
        code = (
            f"import sys; sys.path.insert(1, {str(Path(PROGRAMS_INSIDE).parent)!r}); from inside.server import main; "
            f"del sys.path[1]; main({INTERPRETER!r}, {RUNTIME_MODULES!r})"
        )
        sandbox = Sandbox(
            tuple(_server_mounts(prepared)), self.capabilities, prepared.sandbox.environment, own_groups=False
        )
        with theirs:
            self._held.enter_context(
                process.spawn(
                    sandbox.argv([INTERPRETER, "-c", code], bwrap=process.find_program("bwrap")),
                    env=sandbox.environment,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=None if sys.flags.dev_mode else subprocess.DEVNULL,
                    umask=STAGE_UMASK,
                )
            )
        answer, _ = _receive(ours, START_SECONDS)
        if not answer.get("ready"):
            raise UnavailableError("the runtime of the libdir cannot be loaded for several stages")
        return ours


@dataclass(slots=True)
class ForkedStage:
    """A stage of a fork server, as `supervise` wants it. Killed at the end of *held* if it still runs."""

    reply: socket.socket
    held: ExitStack
    waits: bool = field(init=False)
    """Whether it waits for a packet before it does anything, to be put into its control groups."""

    _process: int = field(init=False)

    def __post_init__(self) -> None:
        answer, descriptors = _receive(self.reply, REPLY_SECONDS)
        if not descriptors:
            raise UnavailableError(str(answer.get("failed", "no process")))
        self._process = descriptors[0]
        self.waits = bool(answer["waits"])
        self.held.callback(os.close, self._process)
        self.held.callback(self.kill)

    @property
    def ended(self) -> int:
        """The next reply is the last one."""
        return self.reply.fileno()

    def pid(self) -> int:
        """Return the number of the sandbox's first process on this machine. Raises OSError."""
        for line in Path(f"/proc/self/fdinfo/{self._process}").read_text(encoding="ascii").splitlines():
            if line.startswith("Pid:"):
                return int(line.removeprefix("Pid:"))
        raise ProcessLookupError("the first process of the sandbox has ended")

    def kill(self) -> None:
        """End everything in the sandbox: the kernel ends all when the first process ends."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def wait(self) -> int:
        """Return the status. Raises UnavailableError; KilnError(HOST, "sandbox-failed") if the server has died."""
        failed = None
        while True:
            data, descriptors = packets.receive(self.reply)
            packets.close(descriptors)
            if not data:
                raise KilnError(
                    Domain.HOST,
                    "sandbox-failed",
                    "the process that all stages of this build root are forked from has died",
                    hint="was it killed, or is the memory used up? the next run goes on from the last good stage",
                    exit_status=ExitStatus.INFRASTRUCTURE,
                    retriable=True,
                )
            answer = json.loads(data)
            failed = answer.get("failed", failed)
            if "status" in answer:
                if failed is not None:
                    raise UnavailableError(failed)
                return int(answer["status"])


def _only_group(confinement: Confinement) -> Path | None:
    """Return the control group of a sandbox that has but one, of version 2: a process can be made in it."""
    if len(confinement.groups) == 1 and (confinement.groups[0] / "cgroup.controllers").exists():
        return confinement.groups[0]
    return None


def _find_interpreter(root: Path) -> None:
    try:
        os.close(mounts.open_in_root(root, INTERPRETER))
    except OSError:
        raise UnavailableError("the build root has no Python") from None


def _server_mounts(prepared: Prepared) -> list[Mount]:
    return [
        Mount("ro", "/usr", str(prepared.root / "usr")),
        *(Mount("symlink", f"/{name}", f"usr/{name}") for name in MERGED),
        *(Mount("dev", f"/dev/{name}", f"/dev/{name}") for name in SERVER_DEVICES),
        Mount("tmpfs", "/tmp"),  # noqa: S108 - inside the sandbox
        Mount("proc", "/proc"),
        *prepared.library,
        Mount("ro", PROGRAMS_INSIDE, str(PROGRAMS)),
    ]


def _clone(planned: Sequence[Mount], sent: ExitStack) -> tuple[list[tuple[str, str, str]], list[int]]:
    """Return mounts as the server takes them, and descriptors for those that show something of this machine."""
    if len(planned) > MAX_MOUNTS:
        raise UnavailableError("the stage has too many mounts")
    described = []
    trees = []
    for mount in planned:
        if mount.kind in ("ro", "rw", "dev"):
            try:
                tree = detached.clone(mount.source, read_only=mount.kind == "ro", devices=mount.kind == "dev")
            except OSError as error:
                raise UnavailableError(f"open_tree: {error}") from None
            sent.callback(os.close, tree)
            trees.append(tree)
            described.append(("tree", mount.target, ""))
        else:
            described.append((mount.kind, mount.target, mount.source))
    return described, trees


def _receive(sock: socket.socket, seconds: float) -> tuple[dict[str, Any], list[int]]:
    """Return one reply. Raises UnavailableError for none."""
    with selectors.PollSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        if not selector.select(seconds):
            raise UnavailableError("the server does not answer")
    try:
        data, descriptors = packets.receive(sock)
        answer = json.loads(data)
    except (OSError, ValueError):
        raise UnavailableError("the server has ended") from None
    return answer, descriptors
