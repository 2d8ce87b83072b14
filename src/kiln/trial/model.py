"""A test of an image: what was asked, what was seen, the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "fail", "error", "skip"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One assertion with its verdict. *expected* and *got* are short; long output goes to *evidence*, a file name."""

    name: str
    type: str
    params: tuple[tuple[str, object], ...]
    reason: str
    verdict: Verdict
    expected: str
    got: str
    seconds: float
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the image was booted on."""

    emulator: str
    accelerator: Literal["kvm", "tcg"]
    firmware: Literal["bios", "uefi"]
    memory_mib: int
    cpus: int


@dataclass(frozen=True, slots=True)
class TestReport:
    """The verdict on one image, bound to it by digest."""

    __test__ = False  # not a pytest class

    image_digest: str
    machine: Machine
    boot_seconds: float
    """From power on until the login channel answered and systemd had settled."""
    total_seconds: float
    checks: tuple[CheckResult, ...]

    @property
    def verdict(self) -> Verdict:
        """`error` if a check could not be carried out or none was, else `fail` if any failed, else `pass`."""
        verdicts = {check.verdict for check in self.checks}
        if "error" in verdicts or not verdicts - {"skip"}:
            return "error"
        return "fail" if "fail" in verdicts else "pass"
