"""Step 14 of a verification: the policy. It reads only what is signed, and every rule that does not hold is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from kiln_wire import layout
from kiln_wire.licence import LicenceError, satisfied
from kiln_wire.policy import LicenceRule, Policy, SignerRule, TestRule, VulnerabilityRule, predicate_type
from kiln_wire.scan import SEVERITIES, ScanError, read_harmless, read_scan
from kiln_wire.statement import (
    CYCLONEDX_TYPE,
    OPENVEX_TYPE,
    PROVENANCE_TYPE,
    TEST_RESULT_TYPE,
    VERIFICATION_TYPE,
    VULNERABILITIES_TYPE,
    Statement,
)
from kiln_wire.trust import Trust
from kiln_wire.tuf import seconds
from kiln_wire.verify_state import Evidence

_DAY_SECONDS: Final = 86_400
_SHOWN: Final = 5
_COMPONENT: Final = "policy"


def check_policy(evidence: Evidence, trust: Trust, policy: Policy | None) -> bool:
    """Step 14: whatever the policy asks for; nothing without one."""
    if policy is not None:
        _Check(evidence, trust, policy).run()
    return True


class _Check:
    def __init__(self, evidence: Evidence, trust: Trust, policy: Policy) -> None:
        self._evidence = evidence
        self._trust = trust
        self._policy = policy

    def run(self) -> None:
        policy = self._policy
        for name in policy.require:
            if not self._of_type(predicate_type(name)):
                self._evidence.error(_COMPONENT, "statement-required", name, "no such statement")
        for rule in policy.signers:
            self._signers(rule)
        if policy.vulnerabilities is not None:
            self._vulnerabilities(policy.vulnerabilities)
        if policy.licences is not None or policy.forbidden_packages:
            self._components()
        if policy.tests is not None:
            self._tests(policy.tests)
        if policy.transparency is not None and policy.transparency.required:
            self._transparency(policy.transparency.min_witnesses)
        if policy.bases:
            self._base()
        if policy.max_age_days is not None:
            self._age(policy.max_age_days)

    def _of_type(self, kind: str) -> dict[str, Statement]:
        return {name: item for name, item in self._evidence.statements.items() if item.predicate_type == kind}

    def _one(self, kind: str) -> dict[str, Any] | None:
        return next((item.predicate for item in self._of_type(kind).values()), None)

    def _signers(self, rule: SignerRule) -> None:
        signers = set()
        for name in self._of_type(predicate_type(rule.statement)):
            hint = self._evidence.signer_of[name]
            role_key = self._trust.role_key(hint)
            if rule.role and (role_key is None or role_key.role != rule.role):
                continue
            if not rule.keys or hint in rule.keys:
                signers.add(hint)
        if len(signers) < rule.threshold:
            wanted = f"{rule.statement} signed by {rule.threshold} keys"
            wanted += f" of the role {rule.role}" if rule.role else ""
            self._evidence.error(_COMPONENT, "too-few-signers", wanted, str(len(signers)))

    def _vulnerabilities(self, rule: VulnerabilityRule) -> None:
        predicates = [item.predicate for item in self._of_type(VULNERABILITIES_TYPE).values()]
        if not predicates:
            self._evidence.error(_COMPONENT, "not-scanned", "a vulnerability report", "none")
            return
        try:
            scans = [read_scan(predicate) for predicate in predicates]
            harmless = read_harmless(item.predicate for item in self._of_type(OPENVEX_TYPE).values())
        except ScanError as error:
            self._evidence.error(_COMPONENT, "malformed-scan", "a vulnerability report and VEX documents", str(error))
            return
        newest = max(scans, key=lambda scan: scan.finished)
        if rule.max_scan_age_days is not None:
            self._not_older("scan-too-old", newest.finished, rule.max_scan_age_days)
        if newest.uncovered and rule.uncovered == "deny":
            got = f"{newest.uncovered} components of which nothing is known"
            self._evidence.error(_COMPONENT, "not-scanned", "advisories for every component", got)
        for severity in SEVERITIES:
            limit = getattr(rule, f"max_{severity}")
            ids = sorted(
                name
                for name, known in newest.severities.items()
                if known == severity and name not in harmless and name not in rule.accepted
            )
            if limit is not None and len(ids) > limit:
                got = f"{len(ids)}: {', '.join(ids[:_SHOWN])}"
                self._evidence.error(_COMPONENT, "vulnerable", f"at most {limit} of severity {severity}", got)

    def _components(self) -> None:
        sbom = self._one(CYCLONEDX_TYPE)
        try:
            listed = [(item["name"], list(_licences(item))) for item in (sbom or {})["components"]]
        except (KeyError, TypeError, AttributeError):
            self._evidence.error(_COMPONENT, "no-components", "a CycloneDX SBOM with components", "none")
            return
        for name, _ in listed:
            if name in self._policy.forbidden_packages:
                self._evidence.error(_COMPONENT, "forbidden-package", "no such package", name)
        if self._policy.licences is not None:
            for name, licences in listed:
                self._licence(self._policy.licences, name, licences)

    def _licence(self, rule: LicenceRule, name: str, licences: list[str]) -> None:
        if not licences:
            if rule.unknown == "deny":
                self._evidence.error(_COMPONENT, "unknown-licence", "a licence for each package", name)
            return

        def accepts(licence: str) -> bool:
            return licence not in rule.deny and (not rule.allow or licence in rule.allow)

        for licence in licences:
            try:
                good = satisfied(licence, accepts)
            except LicenceError:
                good = rule.unknown == "allow"
            if not good:
                self._evidence.error(
                    _COMPONENT, "forbidden-licence", "a licence that the policy allows", f"{name}: {licence[:80]}"
                )

    def _tests(self, rule: TestRule) -> None:
        predicate = self._one(TEST_RESULT_TYPE) or {}
        names = {key: predicate.get(key) for key in ("passedTests", "warnedTests")}
        if predicate.get("result") not in ("PASSED", "WARNED") or not all(
            isinstance(item, list) for item in names.values()
        ):
            self._evidence.error(_COMPONENT, "tests-required", "tests that passed", str(predicate.get("result"))[:40])
            return
        passed, skipped = names["passedTests"] or [], names["warnedTests"] or []
        if len(passed) < rule.min_passed:
            self._evidence.error(_COMPONENT, "tests-required", f"{rule.min_passed} tests that passed", str(len(passed)))
        if rule.max_skipped is not None and len(skipped) > rule.max_skipped:
            self._evidence.error(_COMPONENT, "tests-required", f"at most {rule.max_skipped} skipped", str(len(skipped)))
        for name in rule.required:
            if name not in passed:
                self._evidence.error(_COMPONENT, "tests-required", f"the test {name} passed", "it did not")

    def _transparency(self, min_witnesses: int) -> None:
        evidence = self._evidence
        failed = any(item.step == "transparency" and item.severity != "warning" for item in evidence.findings)
        if layout.LOG_PROOF not in evidence.documents or layout.RECORD_BUNDLE not in evidence.witnessed or failed:
            evidence.error(_COMPONENT, "not-in-log", "a proof that a trusted log holds the record", "none that holds")
        elif evidence.witnesses < min_witnesses:
            evidence.error(_COMPONENT, "not-in-log", f"{min_witnesses} witnesses", str(evidence.witnesses))

    def _base(self) -> None:
        got = str((self._one(VERIFICATION_TYPE) or {}).get("base"))
        if got not in self._policy.bases:
            self._evidence.error(_COMPONENT, "forbidden-base", " or ".join(self._policy.bases), got[:80])

    def _age(self, max_days: int) -> None:
        predicate = self._one(PROVENANCE_TYPE)
        try:
            finished = seconds((predicate or {})["runDetails"]["metadata"]["finishedOn"])
        except (KeyError, TypeError, ValueError):
            self._evidence.error(_COMPONENT, "unknown-age", "provenance with the time when the build ended", "none")
            return
        self._not_older("too-old", finished, max_days)

    def _not_older(self, reason: str, moment: int, max_days: int) -> None:
        days = (self._trust.now - moment) // _DAY_SECONDS
        if days >= max_days:
            self._evidence.error(_COMPONENT, reason, f"less than {max_days} days old", f"{days} days")


def _licences(component: Any) -> Iterator[str]:
    for item in component.get("licenses", []):
        if "expression" in item:
            yield str(item["expression"])
        else:
            yield str(item["license"].get("id") or item["license"]["name"])
