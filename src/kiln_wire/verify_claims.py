"""The steps that every verification of signed statements about some digests has, whatever they lie beside.

Anybody may put a statement beside an image in a registry, so one that can't be read or is by an unknown key is only
noted: what counts is that a trusted key has signed, and what the policy asks for. In a place that is the owner's
alone (*closed*), such a statement is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from kiln_wire import dsse
from kiln_wire.digest import Digest
from kiln_wire.finding import StepResult, VerificationResult
from kiln_wire.policy import Policy
from kiln_wire.statement import Statement, StatementError, read_statement
from kiln_wire.trust import Trust
from kiln_wire.verify_policy import check_policy
from kiln_wire.verify_state import Evidence
from kiln_wire.verify_time import check_validity

KEYS_COMPONENT: Final = "keys"


@dataclass(slots=True)
class Claims:
    """One verification: the first steps of its owner fill *bundles* and *subjects*, the others are here."""

    trust: Trust
    policy: Policy | None
    closed: bool
    evidence: Evidence = field(default_factory=Evidence)
    bundles: dict[str, dsse.Bundle] = field(default_factory=dict)
    subjects: dict[str, Digest] = field(default_factory=dict)
    """What a statement may be about: by name where it is *closed*, else by digest alone."""

    def check_trust(self) -> bool:
        """Look at the keys."""
        if self.trust.root_problem is not None:
            reason, problem = self.trust.root_problem
            self.evidence.error("trust root", reason, "a trust root that can be relied on", problem)
        if not self.trust.by_hint:
            self.evidence.error(KEYS_COMPONENT, "no-key", "a trusted key", "none")
        return True

    def add(self, name: str, data: bytes) -> None:
        """Take in a bundle."""
        try:
            self.bundles[name] = dsse.read_bundle(data)
        except dsse.BundleError as error:
            if not self.closed:
                self._add_foreign(name, data)
                return
            self._mind(name, error.reason, "a Sigstore bundle 0.3 as Kiln writes it", str(error))

    def _add_foreign(self, name: str, data: bytes) -> None:
        try:
            self.bundles[name] = dsse.read_foreign_bundle(data)
        except dsse.BundleError as error:
            self._mind(name, error.reason, "a Sigstore bundle with a public key", str(error))

    def check_signatures(self) -> bool:
        """Keep the statements that a trusted key has signed."""
        keys = self.trust.by_hint
        for name, bundle in self.bundles.items():
            key = keys.get(bundle.hint)
            if key is None:
                self._mind(name, "unknown-key", "a trusted key", bundle.hint)
                continue
            try:
                payload = dsse.verify(bundle, key)
                statement = read_statement(payload, foreign=not self.closed)
            except dsse.BundleError as error:
                self._mind(name, error.reason, f"a signature by {bundle.hint}", str(error))
            except StatementError as error:
                self._mind(name, "malformed-statement", "an in-toto Statement", str(error))
            else:
                self.evidence.signers.add(bundle.hint)
                self.evidence.signer_of[name] = bundle.hint
                self.evidence.statements[name] = statement
        return True

    def check_subjects(self) -> bool:
        """Keep the statements that are about what is here; there must be one."""
        for name, statement in list(self.evidence.statements.items()):
            if not self._is_about(statement):
                expected = ", ".join(f"{item} {digest}" for item, digest in self.subjects.items())
                self._mind(
                    name,
                    "wrong-subject",
                    expected[:400],
                    ", ".join(str(item.digest) for item in statement.subjects)[:400],
                )
                del self.evidence.statements[name]
        if not self.evidence.statements:
            self.evidence.error("signatures", "not-signed", "a statement by a trusted key about this", "none")
        return True

    def check_validity(self) -> bool:
        """Look at roles, expiry and revocation."""
        return check_validity(self.evidence, self.trust, self.bundles)

    def check_policy(self) -> bool:
        """Apply the policy."""
        return check_policy(self.evidence, self.trust, self.policy)

    def _is_about(self, statement: Statement) -> bool:
        if self.closed:
            return {item.name: item.digest for item in statement.subjects} == self.subjects
        return any(item.digest in self.subjects.values() for item in statement.subjects)

    def _mind(self, name: str, reason: str, expected: str, got: str) -> None:
        if self.closed:
            self.evidence.error(name, reason, expected, got)
        else:
            self.evidence.add(name, reason, expected, got, "note")


Step = tuple[str, str, Callable[[], bool]]


def claims_steps(claims: Claims) -> tuple[Step, ...]:
    """Return the last steps."""
    return (
        ("signatures", "Check the signatures", claims.check_signatures),
        ("subjects", "Compare with what was signed", claims.check_subjects),
        ("validity", "Check roles and validity of the keys", claims.check_validity),
        ("policy", "Apply the policy", claims.check_policy),
    )


def run_steps(evidence: Evidence, steps: tuple[Step, ...], files: Callable[[], int]) -> VerificationResult:
    """Carry out all steps and return what was found."""
    results = []
    for number, (name, title, step) in enumerate(steps, start=1):
        evidence.step = name
        done = step()
        failed = any(item.step == name and item.severity == "error" for item in evidence.findings)
        results.append(StepResult(number, name, title, "failed" if failed else "passed" if done else "skipped"))
    order: Mapping[str, int] = {name: number for number, (name, _, _) in enumerate(steps)}
    return VerificationResult(
        steps=tuple(results),
        findings=tuple(sorted(evidence.findings, key=lambda item: (order[item.step], item.component, item.reason))),
        verification_id="",
        signers=tuple(sorted(evidence.signers)),
        files=files(),
        bytes_hashed=evidence.bytes_hashed,
    )
