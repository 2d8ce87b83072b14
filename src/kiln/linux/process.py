"""Starting programs: an environment by allow-list, a process group that ends with the caller, output to a callback."""

from __future__ import annotations

import os
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from kiln.errors import Domain, ExitStatus, KilnError

SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GRACE_SECONDS: Final = 5.0
"""Between SIGTERM and SIGKILL for a process group that must end."""
OUTPUT_TAIL_LINES: Final = 40

PACKAGE_OF_PROGRAM: Final[Mapping[str, str]] = {
    "apt-get": "apt",
    "bwrap": "bubblewrap",
    "debugfs": "e2fsprogs",
    "dumpe2fs": "e2fsprogs",
    "gpgv": "gpgv",
    "ldconfig": "libc-bin",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mksquashfs": "squashfs-tools",
    "openssl": "openssl",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unsquashfs": "squashfs-tools",
}
"""Debian package that brings a program, where the names differ or a hint is worth it."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has ended. *status* is negative for a signal, as in subprocess."""

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    seconds: float


def find_program(name: str) -> Path:
    """Return where *name* is. Raises KilnError(HOST, "missing-tool") with the package that holds it."""
    found = shutil.which(name, path=f"{os.environ.get('PATH') or SEARCH_PATH}:{SEARCH_PATH}")
    if found is None:
        raise missing_tool(name)
    return Path(found)


def missing_tool(name: str) -> KilnError:
    """Return the error for a program that this host lacks."""
    return KilnError(
        Domain.HOST,
        "missing-tool",
        f"the program `{name}` is not on this host",
        hint=f"apt-get install {PACKAGE_OF_PROGRAM.get(name, name)}  (`kiln doctor` lists everything that is missing)",
        exit_status=ExitStatus.INFRASTRUCTURE,
    )


def allowed_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment that programs get: nothing of the caller's but what is listed here."""
    environment = {
        "PATH": SEARCH_PATH,
        "LANG": "C.UTF-8",
        "HOME": os.environ.get("HOME", "/"),
        "TERM": os.environ.get("TERM", "dumb"),
    }
    environment.update(extra or {})
    return environment


@contextmanager
def spawn(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
    new_session: bool = True,
    umask: int = -1,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program; when the block is left, however, its process group is ended and reaped.

    *umask* -1 keeps the caller's.

    Raises KilnError(HOST, "missing-tool").
    """
    program = find_program(argv[0]) if "/" not in argv[0] else Path(argv[0])
    try:
        process = subprocess.Popen(
            [str(program), *argv[1:]],
            env=dict(env) if env is not None else allowed_environment(),
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            start_new_session=new_session,
            umask=umask,
        )
    except FileNotFoundError as error:
        if cwd is not None and str(error.filename) == str(cwd):
            raise
        raise missing_tool(argv[0]) from None
    try:
        yield process
    finally:
        end_group(process, grace_seconds=GRACE_SECONDS, own_group=new_session)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def end_group(process: subprocess.Popen[bytes], *, grace_seconds: float, own_group: bool = True) -> None:
    """End a process and its group: SIGTERM, then SIGKILL after *grace_seconds*; returns when it is reaped."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM, own_group=own_group)
        try:
            process.wait(grace_seconds)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL, own_group=own_group)
            process.wait()
    if own_group:
        # Children that outlived their parent keep its group; without this they would hold mounts and pipes.
        _signal(process, signal.SIGKILL, own_group=True)


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes = b"",
    timeout_seconds: float | None = None,
    on_output: Callable[[bytes], None] | None = None,
    check: bool = True,
) -> Completed:
    """Run a program to its end and return what it printed; *on_output* gets each piece of both streams as it comes.

    Raises KilnError(HOST, "missing-tool"), (HOST, "program-failed") if *check* and the status is not 0, and
    (HOST, "timeout") when *timeout_seconds* of wall time have passed (the process group is then ended).
    """
    started = time.monotonic()
    deadline = None if timeout_seconds is None else started + timeout_seconds
    with spawn(
        argv, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        stdout, stderr = _pump(process, stdin, deadline, on_output)
        if deadline is not None and time.monotonic() >= deadline and process.poll() is None:
            raise _timeout(argv, timeout_seconds or 0.0, stdout + stderr)
        try:
            status = process.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise _timeout(argv, timeout_seconds or 0.0, stdout + stderr) from None
    completed = Completed(tuple(argv), status, stdout, stderr, time.monotonic() - started)
    if check and status != 0:
        raise KilnError(
            Domain.HOST,
            "program-failed",
            f"`{argv[0]}` ended with status {status}",
            detail=f"{' '.join(argv)}\n{tail(stderr or stdout)}",
            exit_status=ExitStatus.INFRASTRUCTURE,
        )
    return completed


def tail(output: bytes, lines: int = OUTPUT_TAIL_LINES) -> str:
    """Return the last *lines* of a program's output as text; bytes that are not UTF-8 are replaced."""
    return "\n".join(output.decode("utf-8", "replace").splitlines()[-lines:])


def _pump(
    process: subprocess.Popen[bytes], stdin: bytes, deadline: float | None, on_output: Callable[[bytes], None] | None
) -> tuple[bytes, bytes]:
    assert process.stdin and process.stdout and process.stderr  # noqa: S101 - all three were asked for as pipes
    collected: dict[int, list[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
    pending = memoryview(stdin)
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            selector.register(stream, selectors.EVENT_READ)
        if stdin:
            os.set_blocking(process.stdin.fileno(), False)
            selector.register(process.stdin, selectors.EVENT_WRITE)
        else:
            process.stdin.close()
        while selector.get_map():
            wait = None if deadline is None else deadline - time.monotonic()
            if wait is not None and wait <= 0:
                break
            for key, _ in selector.select(wait):
                if key.fd in collected:
                    piece = os.read(key.fd, 65536)
                    if not piece:
                        selector.unregister(key.fileobj)
                        continue
                    collected[key.fd].append(piece)
                    if on_output is not None:
                        on_output(piece)
                    continue
                pending = _feed(key.fd, pending)
                if not pending:
                    selector.unregister(process.stdin)
                    process.stdin.close()
        return b"".join(collected[process.stdout.fileno()]), b"".join(collected[process.stderr.fileno()])


def _feed(descriptor: int, pending: memoryview) -> memoryview:
    try:
        return pending[os.write(descriptor, pending[:65536]) :]
    except BrokenPipeError:
        return pending[len(pending) :]  # the program does not want the rest; its status says whether that is well


def _signal(process: subprocess.Popen[bytes], number: signal.Signals, *, own_group: bool) -> None:
    try:
        if own_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except (ProcessLookupError, PermissionError):
        return


def _timeout(argv: Sequence[str], seconds: float, output: bytes) -> KilnError:
    return KilnError(
        Domain.HOST,
        "timeout",
        f"`{argv[0]}` did not end within {seconds:g} s",
        detail=tail(output),
        exit_status=ExitStatus.INFRASTRUCTURE,
        retriable=True,
    )
