"""What a verification found, and the verdict that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
Verdict = Literal["verified", "refused"]
UNTRUSTED_KEY = "untrusted-key"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it must be. *reason* is a stable kebab-case word; *component* names a file."""

    step: str
    component: str
    reason: str
    expected: str
    got: str
    severity: Severity = "error"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One numbered step. `skipped` means that what it reads was already found to be unusable."""

    number: int
    name: str
    title: str
    outcome: Literal["passed", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class VerificationResult:
    """All steps and all findings of one verification."""

    steps: tuple[StepResult, ...]
    findings: tuple[Finding, ...]
    verification_id: str
    """Of the signed verification document; empty where there is none to be read."""
    signers: tuple[str, ...]
    """Hints of the keys whose signatures hold, sorted."""
    files: int
    bytes_hashed: int

    @property
    def integrity(self) -> bool:
        """Whether nothing was changed since somebody signed; says nothing about who that was."""
        return all(step.outcome == "passed" for step in self.steps)

    @property
    def verdict(self) -> Verdict:
        """`verified` if nothing is wrong and every signature is by a trusted key."""
        trusted = all(finding.reason != UNTRUSTED_KEY for finding in self.findings)
        return "verified" if self.integrity and trusted else "refused"
