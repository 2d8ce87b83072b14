"""Stand-ins for a guest: this very machine behind the Session protocol, and a login on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from kiln.authoring.catalog.model import AssertionWish, Reason
from kiln.authoring.recipe.model import Assertion
from kiln.trial.observe import Answer, Need
from kiln.trial.session import CommandResult, session_lost

LOGIN = """
import sys, time, termios, os
name, password, home = sys.argv[1:]
while True:
    print("\\nTest System ttyS0\\n\\nmachine login: ", end="", flush=True)
    if sys.stdin.readline().strip() != name: continue
    print("Password: ", end="", flush=True)
    if sys.stdin.readline().strip() != password:
        print("\\nLogin incorrect"); continue
    time.sleep(0.3)
    termios.tcflush(0, termios.TCIFLUSH)
    print("Last login: never")
    os.chdir(home)
    os.execvp("sh", ["-sh"])
"""


def wish(type_name: str, **params: object) -> AssertionWish:
    """An assertion that a test asks for."""
    return AssertionWish(Assertion(type_name, tuple(sorted(params.items()))), Reason(("feature test",)))


class LocalSession:
    """Runs the scripts on this machine, as this user, the way that a session does."""

    kind = "local"

    def __init__(self) -> None:
        self.scripts: list[str] = []
        self.lost = False

    def run(self, command: str, *, timeout_seconds: float, as_root: bool = True) -> CommandResult:
        self.scripts.append(command)
        if self.lost:
            raise session_lost("gone")
        line = ["timeout", str(max(1, round(timeout_seconds))), "sh", "-c", 's=$(cat); exec </dev/null; eval "$s"']
        done = subprocess.run(line, input=command.encode(), capture_output=True, check=False)
        return CommandResult(done.returncode, done.stdout, done.stderr)


class NothingOutside:
    """A machine of which the host sees what the test says."""

    def __init__(self, answers: dict[Need, Answer] | None = None) -> None:
        self.answers = answers or {}

    def look(self, need: Need) -> Answer:
        return self.answers.get(need, Answer(None, "", "not reachable"))


@contextmanager
def login_on_terminal(name: str, password: str, home: str, noise: bytes = b"") -> Iterator[socket.socket]:
    """A login with a real shell on a real terminal; *noise* is written into what it prints, as a kernel does."""
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", LOGIN, name, password, home])
    ours, theirs = socket.socketpair()
    stop = threading.Event()

    def carry() -> None:
        pieces = 0
        while not stop.is_set():
            ready, _, _ = select.select([master, theirs], [], [], 0.1)
            try:
                if theirs in ready:
                    data = theirs.recv(65536)
                    while data:  # a terminal takes only as much as its reader has taken
                        data = data[os.write(master, data[:256]) :]
                if master in ready:
                    pieces += 1
                    theirs.sendall(os.read(master, 4096) + (noise if pieces % 7 == 0 else b""))
            except OSError:
                return

    thread = threading.Thread(target=carry, daemon=True)
    thread.start()
    try:
        yield ours
    finally:
        stop.set()
        thread.join()
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(master)
        theirs.close()
