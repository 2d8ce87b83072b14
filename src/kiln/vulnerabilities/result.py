"""What a scan found: the document `kiln.scan/v1`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln.vulnerabilities.model import Rating
from kiln.vulnerabilities.severity import at_least
from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads
from kiln_wire.codec import DocumentError, decode, encode
from kiln_wire.digest import Digest

KIND: Final = "kiln.scan/v1"
MAX_SCAN_BYTES: Final = 64 * 1024 * 1024

VexStatus = Literal["not_affected", "affected", "fixed", "under_investigation"]
Verdict = Literal["clean", "findings", "not-covered"]


@dataclass(frozen=True, slots=True)
class Target:
    """What was scanned. *digest*: of the disk image, or of the file."""

    kind: Literal["image", "sbom", "lock"]
    name: str
    digest: Digest


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The database: its version, the newest time in it, and its sources with their numbers of advisories."""

    version: Digest
    modified: str
    sources: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """Components of one ecosystem, and whether any source in the database is about it."""

    ecosystem: str
    components: int
    covered: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """What a VEX statement says about a finding."""

    status: VexStatus
    justification: str
    statement: str
    """Impact or action statement, or empty."""
    document: str
    """The id of the VEX document."""

    @property
    def suppresses(self) -> bool:
        """Whether the finding counts no more."""
        return self.status in ("not_affected", "fixed")


@dataclass(frozen=True, slots=True)
class Finding:
    """A vulnerability of a component."""

    id: str
    """The CVE where there is one."""
    aliases: tuple[str, ...]
    advisories: tuple[str, ...]
    purl: str
    name: str
    version: str
    source: str
    """Name and version under which the advisory was found."""
    fixed: tuple[str, ...]
    """Versions that fix it, oldest first; empty where there is none yet."""
    rating: Rating
    score_tenths: int
    """-1 where there is none."""
    vector: str
    urgency: str
    """The distribution's word."""
    summary: str
    vex: Decision | None = None

    @property
    def counts(self) -> bool:
        """Whether no VEX statement suppresses it."""
        return self.vex is None or not self.vex.suppresses


@dataclass(frozen=True, slots=True)
class NotCompared:
    """A component whose version an advisory's ecosystem cannot order: neither affected nor clean."""

    purl: str
    advisory: str
    problem: str


@dataclass(frozen=True, slots=True)
class ScanResult:
    """Everything that a scan has to say."""

    target: Target
    database: Knowledge
    started: str
    finished: str
    components: int
    coverage: tuple[Coverage, ...]
    findings: tuple[Finding, ...]
    """Worst first."""
    not_compared: tuple[NotCompared, ...]

    @property
    def verdict(self) -> Verdict:
        """`clean` only where every component is covered and every version was compared."""
        if any(finding.counts for finding in self.findings):
            return "findings"
        return "clean" if self.complete else "not-covered"

    def failing(self, threshold: Rating) -> tuple[Finding, ...]:
        """Return the findings that count and are rated at least *threshold*."""
        return tuple(item for item in self.findings if item.counts and at_least(item.rating, threshold))

    @property
    def complete(self) -> bool:
        """Whether nothing was left unsaid: a gate is closed where this is false."""
        return bool(self.coverage) and all(item.covered for item in self.coverage) and not self.not_compared


def scan_document(result: ScanResult) -> dict[str, object]:
    """Return the result as JSON data, with `kind` and `verdict`."""
    return {"kind": KIND, "verdict": result.verdict, **encode(result)}


def scan_bytes(result: ScanResult) -> bytes:
    """Return the canonical document."""
    return canonical_json(scan_document(result))


def read_scan(data: bytes, file: str) -> ScanResult:
    """Read a scan's document. Raises KilnError(VULNERABILITY, "bad-scan")."""
    try:
        document = strict_loads(data, max_bytes=MAX_SCAN_BYTES)
        if not isinstance(document, dict) or document.pop("kind", None) != KIND:
            raise DocumentError("$.kind", f"this is not a {KIND} document")
        stated = document.pop("verdict", None)
        result = decode(ScanResult, document)
        if stated != result.verdict:
            raise DocumentError("$.verdict", f"{stated!r} does not follow from the findings")
    except (CanonicalError, DocumentError) as error:
        raise KilnError(
            Domain.VULNERABILITY,
            "bad-scan",
            f"the scan's result is refused: {error}",
            place=Place(file, path=getattr(error, "path", "")),
            hint="run `kiln scan` again",
            exit_status=ExitStatus.REFUSED,
        ) from None
    return result


def decided(finding: Finding, decision: Decision | None) -> Finding:
    """Return the finding with what VEX says about it."""
    return replace(finding, vex=decision)
