"""Testing an image: boot it, log in, check every assertion, keep the evidence."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from kiln.authoring.catalog.model import AssertionWish
from kiln.errors import KilnError
from kiln.events.model import Notice, Progress, Sink
from kiln.linux.files import write_atomic
from kiln.linux.process import run
from kiln.trial.accelerator import choose_accelerator
from kiln.trial.account import TestAccount, create_account, write_credentials
from kiln.trial.boot import Boot, log_in
from kiln.trial.boot_watch import has_login_prompt
from kiln.trial.evaluate import STEP, CheckOutcome, Evaluation, PlannedCheck, plan_checks
from kiln.trial.machine import EMULATOR, Accelerator, Firmware, Forward, MachineSpec
from kiln.trial.model import CheckResult, Machine, TestReport
from kiln.trial.observe import Answer, Need
from kiln.trial.qemu import (
    RunningMachine,
    create_overlay,
    default_cpus,
    default_memory_mib,
    prepare_firmware,
    running_machine,
)
from kiln.trial.report import report_json, report_junit
from kiln.trial.report_html import report_html
from kiln.trial.session import Session
from kiln.trial.ssh import offered_methods, read_banner
from kiln_wire import layout

BOOT_SECONDS: Final = 300.0
SETTLE_SECONDS: Final = 240.0
"""systemd's own limit for a unit that does not start is 90 s; an emulated processor makes everything slower."""
RETRY_SECONDS: Final = 30.0
TIMEOUT_SECONDS: Final = 900.0

SERIAL_LOG: Final = "serial.log"
EMULATOR_LOG: Final = "qemu.log"
REPORT_JSON: Final = "report.json"
REPORT_JUNIT: Final = "report.xml"
REPORT_HTML: Final = "report.html"
CHECK_FILES: Final = "check-*.txt"


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """How long a test may take. *boot_seconds*: power on to login; *settle_seconds*: until systemd has started all;
    *retry_seconds*: how long a service may stay down after that; *timeout_seconds*: the whole."""

    boot_seconds: float = BOOT_SECONDS
    settle_seconds: float = SETTLE_SECONDS
    retry_seconds: float = RETRY_SECONDS
    timeout_seconds: float = TIMEOUT_SECONDS


def run_trial(
    image: Path,
    image_digest: str,
    assertions: Sequence[AssertionWish],
    *,
    has_ssh: bool,
    firmware: Firmware,
    evidence_dir: Path,
    state_dir: Path,
    sink: Sink,
    ssh_port: int = 22,
    has_sudo: bool = True,
    display: bool = False,
    accelerator: Accelerator | None = None,
    limits: TrialLimits | None = None,
) -> TestReport:
    """Boot *image* in a virtual machine, check *assertions*, and return the report.

    The image is never written: the machine writes into an overlay that is removed afterwards. *has_ssh* and
    *has_sudo* say what the image carries; without either, the test logs in on the serial console. *accelerator* None
    means: find out (the answer is kept in *state_dir*). *evidence_dir* gets `serial.log`, `qemu.log`, `report.json`,
    `report.xml` (JUnit), `report.html` and a file for each failed check with long output.

    Failed assertions are in the report. Raises KilnError: (TRIAL, "unknown-assertion"), (TRIAL, "bad-assertion"),
    (TRIAL, "no-image"), (HOST, "missing-tool") before anything runs; (TRIAL, "boot-failed"), (TRIAL, "boot-stalled"),
    (TRIAL, "boot-timeout"), (TRIAL, "login-refused"), (TRIAL, "emulator-failed") when the machine does not come to a
    login.
    """
    limits = limits or TrialLimits()
    checks = plan_checks(assertions)
    started = time.monotonic()
    deadline = started + limits.timeout_seconds
    evidence_dir.mkdir(parents=True, exist_ok=True)
    for stale in evidence_dir.glob(CHECK_FILES):
        stale.unlink()  # of an earlier test, whose verdicts do not hold any more
    use_ssh = has_ssh and has_sudo
    ports = {ssh_port} if use_ssh else set()
    ports |= {int(n.argument) for c in checks for n in c.ready.needs if n.kind in ("ssh-banner", "ssh-methods")}
    with _work_directory(evidence_dir) as work, tempfile.TemporaryDirectory(prefix="kiln-trial-") as private:
        account = create_account(Path(private), superuser=not has_sudo)
        overlay = work / "overlay.qcow2"
        create_overlay(image, overlay)
        code, variables = prepare_firmware(firmware, work)
        spec = MachineSpec(
            disk=overlay,
            disk_format="qcow2",
            firmware=firmware,
            accelerator=accelerator or choose_accelerator(state_dir),
            memory_mib=default_memory_mib(),
            cpus=default_cpus(),
            forwards=tuple(Forward(port) for port in sorted(ports)),
            display=display,
            credentials=write_credentials(account, Path(private)),
            firmware_code=code,
            firmware_variables=variables,
            serial_log=evidence_dir / SERIAL_LOG,
        )
        attempt = _Attempt(
            image, spec, account, checks, evidence_dir, sink, limits, deadline, ssh_port if use_ssh else None
        )
        try:
            boot_seconds, outcomes = attempt.run()
        except KilnError as error:
            if error.reason != "boot-stalled":
                raise
            # About one in 25 boots under TCG (QEMU 7.2, two processors), 1.3 s into the kernel: the emulator's fault,
            # as the image has not run yet. An image whose kernel hangs does so both times.
            sink.emit(Notice("warning", f"{error.message}; the machine is started once more"))
            create_overlay(image, overlay)
            boot_seconds, outcomes = attempt.run()
    report = TestReport(
        image_digest=image_digest,
        machine=Machine(_emulator_version(), spec.accelerator, firmware, spec.memory_mib, spec.cpus),
        boot_seconds=round(boot_seconds, 3),
        total_seconds=round(time.monotonic() - started, 3),
        checks=tuple(with_evidence(number, outcome, evidence_dir) for number, outcome in enumerate(outcomes, start=1)),
    )
    write_atomic(evidence_dir / REPORT_JSON, report_json(report))
    write_atomic(evidence_dir / REPORT_JUNIT, report_junit(report))
    write_atomic(evidence_dir / REPORT_HTML, report_html(report))
    return report


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One power on, and all that follows from it."""

    image: Path
    spec: MachineSpec
    account: TestAccount
    checks: Sequence[PlannedCheck]
    evidence_dir: Path
    sink: Sink
    limits: TrialLimits
    deadline: float
    ssh_port: int | None

    def run(self) -> tuple[float, tuple[CheckOutcome, ...]]:
        """Return the seconds from power on until the system had settled, and what became of each check."""
        power_on, limits = time.monotonic(), self.limits
        with running_machine(self.spec, error_log=self.evidence_dir / EMULATOR_LOG, sink=self.sink) as machine:
            try:
                boot_deadline = min(self.deadline, power_on + limits.boot_seconds)
                boot = Boot(machine, self.sink, power_on, boot_deadline, limits.boot_seconds)
                with log_in(boot, self.account, self.ssh_port) as session:
                    _settle(session, self.sink, limits.settle_seconds)
                    boot_seconds = time.monotonic() - power_on
                    outside = _Outside(machine, self.account, self.spec.accelerator, self.image)
                    evaluation = Evaluation(self.checks, session, outside, self.sink)
                    outcomes = evaluation.run(settle_seconds=limits.retry_seconds, deadline=self.deadline)
            finally:
                machine.quit()
        return boot_seconds, tuple(outcomes)


def _settle(session: Session, sink: Sink, seconds: float) -> None:
    """Wait until systemd has started what it wants to start."""
    sink.emit(Progress(STEP, 0, None, "seconds", "services start"))
    result = session.run("systemctl is-system-running --wait", timeout_seconds=seconds)
    state = result.stdout.decode("utf-8", "replace").strip()
    if result.timed_out or state not in ("running", "degraded"):
        sink.emit(Notice("warning", f"systemd had not finished its boot after {seconds:g} s: {state or 'no answer'}"))


class _Outside:
    """What the host sees of a running machine."""

    def __init__(self, machine: RunningMachine, account: TestAccount, accelerator: Accelerator, image: Path) -> None:
        self._machine = machine
        self._account = account
        self._accelerator = accelerator
        self._image = image

    def look(self, need: Need) -> Answer:
        """See Outside.look."""
        if need.kind == "accelerator":
            return Answer(0, self._accelerator)
        if need.kind == "image-size":
            return Answer(0, str(self._image.stat().st_size))
        if need.kind == "components":
            return components(self._image.parent)
        if need.kind == "login-prompt":
            serial = self._machine.serial
            return Answer(0 if serial is not None and has_login_prompt(serial.text()) else 1, "")
        host_port = self._machine.ports[int(need.argument)]
        if need.kind == "ssh-banner":
            return Answer(0, read_banner(host_port))
        if need.kind == "ssh-methods":
            try:
                done = offered_methods(self._account, host_port)
            except KilnError as error:
                return Answer(None, "", str(error))
            return Answer(done.status, "", done.stderr.decode("utf-8", "replace"))
        raise ValueError(need.kind)


def components(directory: Path) -> Answer:
    """Return the packages that an image directory lists, one `name:architecture TAB version` a line."""
    try:
        return Answer(0, (directory / layout.DPKG_MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Answer(None, "", f"there is no {layout.DPKG_MANIFEST} beside the image")


@contextmanager
def _work_directory(evidence_dir: Path) -> Iterator[Path]:
    """A directory for what is thrown away, on the disk of the evidence; one left by a killed run is replaced."""
    work = evidence_dir / ".machine"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def with_evidence(number: int, outcome: CheckOutcome, evidence_dir: Path) -> CheckResult:
    """Return the result with the name of the file that now holds its long output: of what failed, or is to be kept."""
    if not outcome.evidence or (outcome.result.verdict == "pass" and not outcome.keep):
        return outcome.result
    name = f"check-{number:03d}-{outcome.result.type}.txt"
    write_atomic(evidence_dir / name, outcome.evidence.encode("utf-8", "replace"))
    return replace(outcome.result, evidence=name)


def _emulator_version() -> str:
    first = run([EMULATOR, "--version"]).stdout.decode("utf-8", "replace").splitlines()[0]
    return first.removeprefix("QEMU emulator version ").join(("QEMU ", ""))
