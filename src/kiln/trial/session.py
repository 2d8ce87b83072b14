"""How a test talks to the guest: run a shell script, get its status and both streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from kiln.errors import Domain, KilnError

TIMEOUT_STATUSES: Final = (124, 137)
"""Of timeout(1): it ended the command, or had to kill it."""
KILL_AFTER_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command in the guest did."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def timed_out(self) -> bool:
        """Whether the guest's timeout(1) ended it."""
        return self.status in TIMEOUT_STATUSES


class Session(Protocol):
    """A way into the guest."""

    @property
    def kind(self) -> str:
        """`ssh` or `console`."""

    def run(self, command: str, *, timeout_seconds: float, as_root: bool = True) -> CommandResult:
        """Run the POSIX shell script *command* with an empty standard input.

        The guest ends it after *timeout_seconds* (`CommandResult.timed_out`). Raises KilnError(TRIAL, "session-lost")
        when the guest does not answer any more.
        """


def shell_command(as_root: bool, superuser: bool, seconds: float) -> str:
    """Return the command line that reads a script from standard input and runs it.

    The script travels as data and is handed to `eval` whole: nothing in it is expanded on the way, what it starts
    finds an empty standard input, and its length is not limited by what exec(2) takes.
    """
    shell = """sh -c 's=$(cat); exec </dev/null; eval "$s"'"""
    limited = f"timeout -k {KILL_AFTER_SECONDS} {max(1, round(seconds))} {shell}"
    if as_root == superuser:
        return limited
    if as_root:
        return f"sudo -n {limited}"
    return f"setpriv --reuid nobody --regid nogroup --clear-groups {limited}"


def session_lost(detail: str) -> KilnError:
    """Return the error for a guest that stopped answering."""
    return KilnError(
        Domain.TRIAL,
        "session-lost",
        "the machine under test stopped answering",
        detail=detail,
        hint="the serial log in the evidence shows what happened last; it may have run out of memory",
    )


def login_refused(detail: str) -> KilnError:
    """Return the error for a guest that does not let the test's account in."""
    return KilnError(
        Domain.TRIAL,
        "login-refused",
        "the machine booted but did not let the test's account in",
        detail=detail,
        hint="systemd (252 or later) makes the account from a credential; AllowUsers or a read-only /etc refuse it",
    )
