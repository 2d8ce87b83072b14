"""Verify an image directory, offline. The steps, in their order:

 1. trust: read the trusted keys and the public key beside the image
 2. bundles: list the directory, read every bundle
 3. signatures: check each bundle's signature with the key that its hint names
 4. statements: read each signed payload as an in-toto Statement
 5. subjects: hash every file; the subjects' digests must be those of the files
 6. required: every required statement is there, once, under its own name
 7. verification: the verification document is what was signed, its id follows from what it binds, and so do the files
 8. inputs: request, recipe, resolution, lock and plan are those of the provenance, and agree with each other
 9. packages: lock, both SBOMs and dpkg-manifest name the same packages
10. tests: the tests passed, and the report says so of this image
11. accounting: every file of the directory is bound to a signed statement
12. transparency: the log of records holds the record, and enough witnesses have seen that
13. validity: each key had the role for what it signed, and was neither expired nor revoked then
14. policy: what the policy asks for, if one was given

All findings are collected; no step ends the verification. A step whose documents were found unusable earlier is
skipped, which is never counted as passed. Nothing is parsed before its signature holds, except the envelopes
themselves. A key that only lies beside the image proves that nothing changed, not who made it: a finding says so, and
the verdict is a refusal unless that key is among the trusted ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from kiln_wire import dsse, layout
from kiln_wire.canonical import CanonicalError, canonical_json
from kiln_wire.digest import Digest
from kiln_wire.files import FileError, Files
from kiln_wire.finding import UNTRUSTED_KEY, StepResult, VerificationResult
from kiln_wire.keys import load_key
from kiln_wire.policy import Policy
from kiln_wire.spki import KeyFormatError, VerifyingKey
from kiln_wire.statement import Statement, StatementError, read_statement
from kiln_wire.trust import Trust
from kiln_wire.verify_agreement import check_packages, check_tests, check_verification_document
from kiln_wire.verify_inputs import check_inputs
from kiln_wire.verify_policy import check_policy
from kiln_wire.verify_state import Evidence
from kiln_wire.verify_time import check_transparency, check_validity

MAX_DOCUMENT_BYTES: Final = 64 * 1024 * 1024
_DOCUMENTS: Final = (
    layout.REQUEST,
    layout.RECIPE,
    layout.RESOLUTION,
    layout.LOCK,
    layout.CYCLONEDX,
    layout.SPDX,
    layout.DPKG_MANIFEST,
    layout.REPORT,
    layout.VERIFICATION,
    layout.RECORD,
    layout.LOG_PROOF,
)


def verify(files: Files, trust: Trust, *, image: str = "", policy: Policy | None = None) -> VerificationResult:
    """Carry out all steps on *files*. *image*, if given, must be the name of a file that the statements are about."""
    run = _Verification(files, trust, image, policy)
    results = []
    for number, (name, title, step) in enumerate(_STEPS, start=1):
        run.evidence.step = name
        done = step(run)
        failed = any(finding.step == name and finding.severity == "error" for finding in run.evidence.findings)
        results.append(StepResult(number, name, title, "failed" if failed else "passed" if done else "skipped"))
    return run.result(results)


class _Verification:
    """The state of one run. A step returns whether it could be carried out."""

    def __init__(self, files: Files, trust: Trust, image: str, policy: Policy | None) -> None:
        self.files = files
        self.trust = trust
        self.image = image
        self.policy = policy
        self.keys = trust.by_hint
        self.trusted = frozenset(self.keys)
        self.beside: VerifyingKey | None = None
        self.bundles: dict[str, dsse.Bundle] = {}
        self.payloads: dict[str, bytes] = {}
        self.evidence = Evidence()

    def read_keys(self) -> bool:
        """Step 1."""
        if self.trust.root_problem is not None:
            reason, problem = self.trust.root_problem
            self.evidence.error("trust root", reason, "a trust root that can be relied on", problem)
        try:
            data = self.files.read(layout.PUBLIC_KEY, MAX_DOCUMENT_BYTES)
            self.beside = load_key(data)
            if self.beside.pem != data:
                self.evidence.error(layout.PUBLIC_KEY, "malformed-key", "a key as OpenSSL spells it", "other spelling")
        except KeyFormatError as error:
            self.evidence.error(layout.PUBLIC_KEY, "malformed-key", "a public key in PEM", str(error))
        except FileError as problem:
            if problem.reason != "missing":
                self.evidence.error(layout.PUBLIC_KEY, problem.reason, "a readable file", problem.problem)
        if self.beside is not None and self.beside.hint not in self.trusted:
            self.evidence.add(
                layout.PUBLIC_KEY,
                UNTRUSTED_KEY,
                ", ".join(sorted(self.trusted)) or "a trusted key",
                f"{self.beside.hint}: proves that nothing changed since it signed, not who made the image",
                "note",
            )
            self.keys[self.beside.hint] = self.beside
        if not self.keys:
            self.evidence.error(layout.PUBLIC_KEY, "no-key", "a trusted key, or one beside the image", "none")
        return True

    def read_bundles(self) -> bool:
        """Step 2."""
        evidence = self.evidence
        try:
            entries = self.files.entries()
        except FileError as problem:
            evidence.error(problem.name, problem.reason, "a directory that can be listed", problem.problem)
            return False
        for entry in entries:
            if not entry.regular:
                evidence.error(entry.name, "not-a-regular-file", "a regular file", "a link or a special file")
            elif not entry.name.isprintable():
                evidence.error(ascii(entry.name), "bad-name", "a printable name", "control or undecodable characters")
            evidence.entries[entry.name] = entry
        prefix = layout.ATTESTATIONS + "/"
        names = [name for name in evidence.entries if name.startswith(prefix) and name.endswith(layout.BUNDLE_SUFFIX)]
        if not names:
            evidence.error(layout.ATTESTATIONS, "no-statements", "signed statements", "none")
        for name in names:
            evidence.accounted.add(name)
            try:
                self.bundles[name] = dsse.read_bundle(self.files.read(name, dsse.MAX_BUNDLE_BYTES))
            except dsse.BundleError as error:
                evidence.unusable(name, error.reason, "a Sigstore bundle 0.3 as Kiln writes it", str(error))
            except FileError as problem:
                evidence.unusable(name, problem.reason, "a readable file", problem.problem)
        return bool(names)

    def check_signatures(self) -> bool:
        """Step 3."""
        for name, bundle in self.bundles.items():
            key = self.keys.get(bundle.hint)
            if key is None:
                known = ", ".join(sorted(self.keys)) or "none"
                self.evidence.unusable(name, "unknown-key", known, bundle.hint)
                continue
            try:
                self.payloads[name] = dsse.verify(bundle, key)
                self.evidence.signers.add(bundle.hint)
                self.evidence.signer_of[name] = bundle.hint
            except dsse.BundleError as error:
                self.evidence.unusable(name, error.reason, f"a signature by {bundle.hint}", str(error))
        signers = self.evidence.signers
        if self.beside is not None and signers and self.beside.hint not in signers:
            self.evidence.error(
                layout.PUBLIC_KEY, "wrong-key", f"the key that signed: {', '.join(sorted(signers))}", self.beside.hint
            )
        return bool(self.bundles)

    def read_statements(self) -> bool:
        """Step 4."""
        for name, payload in self.payloads.items():
            try:
                self.evidence.statements[name] = read_statement(payload)
            except StatementError as error:
                self.evidence.unusable(name, "malformed-statement", "an in-toto Statement v1", str(error))
        return bool(self.payloads)

    def check_subjects(self) -> bool:
        """Step 5."""
        evidence = self.evidence
        self._hash_everything()
        statements = evidence.statements
        if not statements:
            return False
        leading = statements.get(layout.PROVENANCE_BUNDLE) or next(iter(statements.values()))
        evidence.subjects = {subject.name: subject.digest for subject in leading.subjects}
        for name, statement in statements.items():
            if statement.subjects != leading.subjects:
                evidence.error(name, "wrong-subject", _subjects(leading), _subjects(statement))
        for subject in leading.subjects:
            evidence.compare(subject.name, subject.digest)
        if self.image and self.image not in evidence.subjects:
            evidence.error(self.image, "not-attested", f"one of {', '.join(evidence.subjects)}", self.image)
        return True

    def _hash_everything(self) -> None:
        evidence = self.evidence
        for name in _DOCUMENTS:
            if name in evidence.entries and evidence.entries[name].regular:
                try:
                    evidence.documents[name] = self.files.read(name, MAX_DOCUMENT_BYTES)
                except FileError as problem:
                    evidence.error(name, problem.reason, "a readable document", problem.problem)
        regular = [entry for entry in evidence.entries.values() if entry.regular]
        by_size = sorted(regular, key=lambda entry: (-entry.size_bytes, entry.name))
        evidence.bytes_hashed = sum(entry.size_bytes for entry in regular)
        for name, digest in self.files.digests(entry.name for entry in by_size).items():
            if isinstance(digest, Digest):
                evidence.digests[name] = digest
            else:
                evidence.error(name, digest.reason, "a readable file", digest.problem)

    def check_required(self) -> bool:
        """Step 6."""
        evidence = self.evidence
        for name, kind in layout.REQUIRED_STATEMENTS.items():
            if name not in evidence.entries:
                evidence.error(name, "missing-statement", kind, "no such file")
        known = set(layout.KNOWN_STATEMENTS.values())
        for name, statement in evidence.statements.items():
            expected, got = layout.KNOWN_STATEMENTS.get(name), statement.predicate_type
            if expected is None and got in known:
                evidence.error(name, "duplicate-statement", "each required statement once", got)
            elif expected not in (None, got):
                evidence.unusable(name, "swapped-statement", str(expected), got)
                evidence.misplaced.add(name)
        for name in evidence.misplaced:
            del evidence.statements[name]
        return True

    def account(self) -> bool:
        """Step 11."""
        evidence = self.evidence
        evidence.accounted.update(evidence.subjects)
        if evidence.signers:
            evidence.accounted.add(layout.PUBLIC_KEY)
        record = evidence.statements.get(layout.RECORD_BUNDLE)
        if record is not None:
            evidence.compare_content(layout.RECORD, _canonical(record.predicate))
            for name in _recorded_files(record.predicate) - evidence.entries.keys() - evidence.named:
                # A statement that nobody requires can still not be taken away without a trace.
                evidence.unusable(name, "missing-file", "a file that the record lists", "no such file")
        elif layout.RECORD_BUNDLE in evidence.entries:
            evidence.accounted.add(layout.RECORD)  # its bundle is already named
        if layout.RECORD_BUNDLE in evidence.entries:
            evidence.accounted.add(layout.LOG_PROOF)  # the next step looks at it
        if not set(layout.REQUIRED_STATEMENTS) <= evidence.statements.keys():
            return False
        for name in evidence.entries.keys() - evidence.accounted:
            evidence.error(name, "unexpected-file", "a file that a signed statement lists", "no statement lists it")
        return True

    def result(self, steps: Iterable[StepResult]) -> VerificationResult:
        """Return what was found."""
        evidence = self.evidence
        order = {name: number for number, (name, _, _) in enumerate(_STEPS)}
        return VerificationResult(
            steps=tuple(steps),
            findings=tuple(sorted(evidence.findings, key=lambda item: (order[item.step], item.component, item.reason))),
            verification_id=evidence.verification.verification_id if evidence.verification else "",
            signers=tuple(sorted(evidence.signers)),
            files=len(evidence.entries),
            bytes_hashed=evidence.bytes_hashed,
        )


def _recorded_files(predicate: Any) -> set[str]:
    """Return the names of the files that a signed record lists."""
    try:
        return {item["path"] for item in predicate["run"]["files"]}
    except (KeyError, TypeError):
        return set()


def _canonical(predicate: object) -> bytes:
    try:
        return canonical_json(predicate)
    except CanonicalError:
        return b""  # no file of ours is empty


def _subjects(statement: Statement) -> str:
    return ", ".join(f"{subject.name} {subject.digest.hex[:12]}" for subject in statement.subjects)


_Step = Callable[[_Verification], bool]
_STEPS: Final[tuple[tuple[str, str, _Step], ...]] = (
    ("trust", "Read the keys", _Verification.read_keys),
    ("bundles", "Read the bundles", _Verification.read_bundles),
    ("signatures", "Check the signatures", _Verification.check_signatures),
    ("statements", "Read the statements", _Verification.read_statements),
    ("subjects", "Compare the image with what was signed", _Verification.check_subjects),
    ("required", "Look for the required statements", _Verification.check_required),
    ("verification", "Check the verification document", lambda run: check_verification_document(run.evidence)),
    ("inputs", "Compare request, recipe, lock and plan", lambda run: check_inputs(run.evidence)),
    ("packages", "Compare the lists of packages", lambda run: check_packages(run.evidence)),
    ("tests", "Check the verdict of the tests", lambda run: check_tests(run.evidence)),
    ("accounting", "Account for every file", _Verification.account),
    ("transparency", "Look for the record in the log", lambda run: check_transparency(run.evidence, run.trust)),
    (
        "validity",
        "Check roles and validity of the keys",
        lambda run: check_validity(run.evidence, run.trust, run.bundles),
    ),
    ("policy", "Apply the policy", lambda run: check_policy(run.evidence, run.trust, run.policy)),
)
STEPS: Final = tuple((name, title) for name, title, _ in _STEPS)
"""Name and title of each step, in their order."""
