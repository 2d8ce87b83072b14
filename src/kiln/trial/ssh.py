"""A session over SSH: one connection, kept open, that every command shares."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kiln.errors import KilnError
from kiln.linux.process import Completed, run, spawn, tail
from kiln.trial.account import TestAccount
from kiln.trial.session import CommandResult, login_refused, session_lost, shell_command

LOOPBACK: Final = "127.0.0.1"
BANNER_SECONDS: Final = 5.0
LOGIN_SECONDS: Final = 60.0
ANSWER_MARGIN_SECONDS: Final = 30.0
"""How much longer than the guest's own limit the host waits for an answer."""
SSH_FAILED_STATUS: Final = 255

_BANNER: Final = re.compile(rb"SSH-[0-9.]+-[^\r\n]*")
_METHODS: Final = re.compile(r"Permission denied \(([a-z0-9,@.-]*)\)")


class SshSession:
    """Runs commands over the connection that `ssh_session` opened."""

    kind = "ssh"

    def __init__(self, options: list[str], destination: str, *, superuser: bool) -> None:
        self._options = options
        self._destination = destination
        self._superuser = superuser

    def run(self, command: str, *, timeout_seconds: float, as_root: bool = True) -> CommandResult:
        """See Session.run."""
        line = shell_command(as_root, self._superuser, timeout_seconds)
        try:
            done = run(
                ["ssh", *self._options, self._destination, line],
                stdin=command.encode("utf-8"),
                timeout_seconds=timeout_seconds + ANSWER_MARGIN_SECONDS,
                check=False,
            )
        except KilnError as error:
            if error.reason == "timeout":
                raise session_lost(error.detail) from error
            raise
        if done.status == SSH_FAILED_STATUS and not self._connected():
            raise session_lost(tail(done.stderr))
        return CommandResult(done.status, done.stdout, done.stderr)

    def _connected(self) -> bool:
        """A command may itself end with 255; then the connection still stands."""
        return run(["ssh", *self._options, "-O", "check", self._destination], check=False).status == 0


@contextmanager
def ssh_session(account: TestAccount, host_port: int) -> Iterator[SshSession]:
    """Log in and keep the connection until the block is left.

    Raises KilnError(TRIAL, "login-refused"), (TRIAL, "session-lost"), (HOST, "missing-tool").
    """
    # The path of a control socket has room for 108 bytes, so it cannot lie with the evidence.
    with tempfile.TemporaryDirectory(prefix="kiln-ssh-") as name:
        directory = Path(name)
        control = directory / "control"
        shared = ["-S", str(control), *_options(host_port, directory)]
        destination = f"{account.name}@{LOOPBACK}"
        login = [
            *("ssh", "-M", "-N", *shared, "-i", str(account.private_key_file)),
            *("-o", "IdentitiesOnly=yes", "-o", "PreferredAuthentications=publickey", destination),
        ]
        log = directory / "log"
        with log.open("wb") as stderr, spawn(login, stdout=subprocess.DEVNULL, stderr=stderr) as master:
            _wait_for_login(master, control, log)
            yield SshSession(shared, destination, superuser=account.superuser)


def read_banner(host_port: int, timeout_seconds: float = BANNER_SECONDS) -> str:
    """Return the identification string (RFC 4253, section 4.2) of the SSH server behind *host_port*, "" without one.

    QEMU accepts a forwarded connection before the guest does, so that only the banner proves a server.
    """
    received = b""
    deadline = time.monotonic() + timeout_seconds
    try:
        with socket.create_connection((LOOPBACK, host_port), timeout=timeout_seconds) as connection:
            while len(received) < 4096 and time.monotonic() < deadline:
                piece = connection.recv(1024)
                received += piece
                found = _BANNER.search(received)
                if not piece or (found and b"\n" in received[found.start() :]):
                    break
    except OSError:
        pass
    found = _BANNER.search(received)
    return found.group().decode("ascii", "replace") if found else ""


def offered_methods(account: TestAccount, host_port: int) -> Completed:
    """Ask the server, without trying any, which authentication methods it offers; read with parse_methods."""
    with tempfile.TemporaryDirectory(prefix="kiln-ssh-") as name:
        ask = ["-o", "PreferredAuthentications=none", "-o", "PubkeyAuthentication=no"]
        argv = ["ssh", *_options(host_port, Path(name)), *ask, f"{account.name}@{LOOPBACK}", "true"]
        return run(argv, check=False, timeout_seconds=LOGIN_SECONDS)


def parse_methods(stderr: str) -> frozenset[str] | None:
    """Return the methods that ssh reports as possible, None if it did not get so far."""
    found = _METHODS.search(stderr)
    return None if found is None else frozenset(filter(None, found.group(1).split(",")))


def _options(host_port: int, directory: Path) -> list[str]:
    settings = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "accept-new",
        "UserKnownHostsFile": str(directory / "known-hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        "ConnectTimeout": str(round(LOGIN_SECONDS)),
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "LogLevel": "ERROR",
    }
    options = ["-F", os.devnull, "-p", str(host_port)]
    for key, value in settings.items():
        options += ["-o", f"{key}={value}"]
    return options


def _wait_for_login(master: subprocess.Popen[bytes], control: Path, log: Path) -> None:
    """The control socket appears when the login has succeeded."""
    deadline = time.monotonic() + LOGIN_SECONDS
    while not control.exists():
        if master.poll() is not None or time.monotonic() > deadline:
            said = tail(log.read_bytes())
            raise login_refused(said) if "Permission denied" in said else session_lost(said)
        time.sleep(0.05)
