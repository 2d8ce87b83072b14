"""What one verification knows so far, and how its steps say what they found."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from kiln_wire import layout
from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads
from kiln_wire.digest import Digest
from kiln_wire.files import Entry
from kiln_wire.finding import Finding, Severity
from kiln_wire.packages import ShapeError, difference
from kiln_wire.statement import Statement
from kiln_wire.verification import Verification


@dataclass(slots=True)
class Evidence:
    """Grows from step to step; belongs to one run."""

    step: str = ""
    findings: list[Finding] = field(default_factory=list)
    entries: dict[str, Entry] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    digests: dict[str, Digest] = field(default_factory=dict)
    signers: set[str] = field(default_factory=set)
    statements: dict[str, Statement] = field(default_factory=dict)
    """By the name of the bundle; only those whose signature holds."""
    subjects: dict[str, Digest] = field(default_factory=dict)
    verification: Verification | None = None
    accounted: set[str] = field(default_factory=set)
    """Files that a signed statement lists, and the bundles themselves."""
    misplaced: set[str] = field(default_factory=set)
    named: set[str] = field(default_factory=set)
    """Files that were already found to be changed; a later step does not name them again."""
    bytes_hashed: int = 0
    signer_of: dict[str, str] = field(default_factory=dict)
    """Bundle -> hint of the key whose signature holds."""
    witnessed_at: int | None = None
    """When enough witnesses had seen the record in the log, seconds since 1970."""
    witnesses: int = 0
    """How many witnesses have signed the checkpoint."""
    witnessed: set[str] = field(default_factory=set)
    """Bundles that the record lists as they are."""

    def add(self, component: str, reason: str, expected: str, got: str, severity: Severity) -> None:
        """Add a finding of the current step."""
        self.findings.append(Finding(self.step, component, reason, expected, got, severity))

    def error(self, component: str, reason: str, expected: str, got: str) -> None:
        """Add a finding that refuses the image."""
        self.add(component, reason, expected, got, "error")

    def unusable(self, name: str, reason: str, expected: str, got: str) -> None:
        """Add a finding against a file, which no later step reads or names again."""
        self.named.add(name)
        self.error(name, reason, expected, got)

    def compare(self, name: str, expected: Digest) -> None:
        """A signed statement lists the file *name* with this digest; name the file if it is another."""
        self.accounted.add(name)
        got = self.digests.get(name)
        if got == expected or name in self.named:
            return
        self.named.add(name)
        if name not in self.entries:
            self.error(name, "missing-file", str(expected), "no such file")
        elif got is not None:
            self.error(name, "changed", str(expected), str(got))

    def compare_content(self, name: str, expected: bytes) -> None:
        """A signed statement holds the content of the file *name*; name the file if it has another."""
        self.compare(name, Digest.of(expected))

    def predicate(self, bundle: str) -> dict[str, Any] | None:
        """Return the signed predicate of a bundle, or None if there is none to be relied on."""
        statement = self.statements.get(bundle)
        return None if statement is None else statement.predicate

    def document(self, name: str) -> dict[str, Any] | None:
        """Return a JSON object of the directory; None if it was changed, is missing or can't be read (and is named)."""
        data = self.documents.get(name)
        if data is None or name in self.named:
            return None
        try:
            document = strict_loads(data)
            if name != layout.REPORT:  # its durations are no integers
                canonical_json(document)
        except CanonicalError as error:
            self.unusable(name, "malformed-document", "a JSON document with a canonical form", str(error))
            return None
        if not isinstance(document, dict):
            self.unusable(name, "malformed-document", "a JSON object", type(document).__name__)
            return None
        return document

    def agree(
        self, component: str, expected: Callable[[], Collection[object]], got: Callable[[], Collection[object]]
    ) -> None:
        """Compare two sets; *component* is to blame for what is missing or too much."""
        try:
            missing, surplus = difference(expected(), got())
        except ShapeError as error:
            self.error(component, "malformed-document", "packages with name, version and SHA-256", str(error))
            return
        if missing or surplus:
            self.error(
                component, "disagrees", f"also {missing}" if missing else "nothing more", surplus or "nothing more"
            )
