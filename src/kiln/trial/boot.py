"""From power on to a session: waiting for a login, with an eye on the console for the ways in which a boot fails."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from kiln.errors import Domain, KilnError
from kiln.events.model import Notice, Progress, Sink
from kiln.trial.account import TestAccount
from kiln.trial.boot_watch import boot_failure, has_login_prompt, in_kernel, last_lines
from kiln.trial.console import ConsoleSession
from kiln.trial.evaluate import STEP
from kiln.trial.qemu import RunningMachine
from kiln.trial.session import Session
from kiln.trial.ssh import read_banner, ssh_session

POLL_SECONDS: Final = 0.25
BANNER_POLL_SECONDS: Final = 1.0
SSH_GRACE_SECONDS: Final = 90.0
"""After the console's login prompt. A first boot makes host keys, which takes an emulated processor half a minute."""
STILL_SECONDS: Final = 60.0
"""A kernel that starts speaks many times a second, emulated too; its longest pause, unpacking the initial RAM disk,
takes an emulated processor some 10 s."""


class Boot:
    """Waiting for a machine that boots, with an eye on its console."""

    def __init__(
        self, machine: RunningMachine, sink: Sink, power_on: float, deadline: float, limit_seconds: float
    ) -> None:
        self.machine = machine
        self.sink = sink
        self.deadline = deadline
        self._power_on = power_on
        self._limit_seconds = limit_seconds
        self._told = -1
        self._heard = ""
        self._heard_at = power_on

    @property
    def console(self) -> str:
        """What the serial console has said so far."""
        return self.machine.serial.text() if self.machine.serial is not None else ""

    def check(self) -> None:
        """Raise KilnError(TRIAL) "boot-failed", "boot-stalled" or "boot-timeout" if there is nothing to wait for."""
        console = self.console
        failure = boot_failure(console)
        if failure is not None:
            raise _boot_error("boot-failed", f"the image does not boot: {failure.message}", console, failure.hint)
        if self.machine.ended():
            hint = "it restarted or switched itself off; a kernel that panics before it can speak does that"
            raise _boot_error("boot-failed", "the machine ended during its boot", console, hint)
        now = time.monotonic()
        if console != self._heard:
            self._heard, self._heard_at = console, now
        if now - self._heard_at > STILL_SECONDS and in_kernel(console):
            hint = "an emulator that lost an interrupt looks like this, and so does a driver that waits for its device"
            message = f"the kernel has said nothing for {STILL_SECONDS:g} s, and no program of the image has run yet"
            raise _boot_error("boot-stalled", message, console, hint)
        if now > self.deadline:
            hint = "is there a kernel console on ttyS0, a getty or an SSH server, and systemd 252 or later?"
            raise _boot_error("boot-timeout", f"no login within {self._limit_seconds:g} s of power on", console, hint)
        if int(now - self._power_on) != self._told:
            self._told = int(now - self._power_on)
            self.sink.emit(Progress(STEP, self._told, None, "seconds", "boot"))


@contextmanager
def log_in(boot: Boot, account: TestAccount, ssh_port: int | None) -> Iterator[Session]:
    """Wait for a login channel and use it: SSH where *ssh_port* is given and lets the account in, else the console."""
    with ExitStack() as stack:
        yield _ssh_login(boot, account, ssh_port, stack) or _console_login(boot, account)


def _ssh_login(boot: Boot, account: TestAccount, ssh_port: int | None, stack: ExitStack) -> Session | None:
    """Return a session over SSH; None where no server answers or it does not admit the account (AllowUsers ...)."""
    if ssh_port is None:
        return None
    host_port = boot.machine.ports[ssh_port]
    patience = math.inf
    while not read_banner(host_port, timeout_seconds=BANNER_POLL_SECONDS):
        boot.check()
        if patience == math.inf and has_login_prompt(boot.console):
            patience = time.monotonic() + SSH_GRACE_SECONDS
        if time.monotonic() > patience:
            boot.sink.emit(Notice("info", "no SSH server answers; using the serial console"))
            return None
        time.sleep(POLL_SECONDS)
    try:
        return stack.enter_context(ssh_session(account, host_port))
    except KilnError as error:
        if error.reason != "login-refused":
            raise
    boot.sink.emit(Notice("info", "the SSH server does not admit the test's account; using the serial console"))
    return None


def _console_login(boot: Boot, account: TestAccount) -> Session:
    while not has_login_prompt(boot.console):
        boot.check()
        time.sleep(POLL_SECONDS)
    serial = boot.machine.serial
    if serial is None:
        raise ValueError("the serial port of this machine is on a terminal")
    console = ConsoleSession(serial, account)
    console.log_in(timeout_seconds=boot.deadline - time.monotonic())
    return console


def _boot_error(reason: str, message: str, console: str, hint: str) -> KilnError:
    return KilnError(Domain.TRIAL, reason, message, detail=last_lines(console), hint=hint)
