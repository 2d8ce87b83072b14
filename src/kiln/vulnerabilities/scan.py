"""A scan: components against the database, VEX applied."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kiln.errors import Domain, ExitStatus, KilnError
from kiln.vulnerabilities.database import Database
from kiln.vulnerabilities.match import match
from kiln.vulnerabilities.model import Component
from kiln.vulnerabilities.result import Knowledge, ScanResult, Target
from kiln.vulnerabilities.vex import Statement, apply_vex


def scan(
    target: Target,
    components: Sequence[Component],
    database: Path,
    *,
    vex: Sequence[tuple[Statement, ...]] = (),
    started: str,
    finished: str,
) -> ScanResult:
    """Return what is known about *components*; times are RFC 3339 and the caller's.

    Raises KilnError(VULNERABILITY): `no-database`, `unusable-database`, and `nothing-scanned` if the database is about
    none of the ecosystems: "nothing found" would be a lie.
    """
    with Database(database) as opened:
        info = opened.info()
        found = match(components, opened, info.ecosystems)
    if not any(item.covered for item in found.coverage) and not found.findings:
        ecosystems = ", ".join(item.ecosystem for item in found.coverage) or "none"
        raise KilnError(
            Domain.VULNERABILITY,
            "nothing-scanned",
            f"no advisory of the database is about the ecosystems of {target.name}: {ecosystems}",
            detail=f"the database knows {', '.join(info.ecosystems) or 'none'}",
            hint="add a source for them: `kiln advisories status` shows what is there",
            exit_status=ExitStatus.FAILED,
        )
    return ScanResult(
        target=target,
        database=Knowledge(
            info.version, info.modified, tuple((source.name, source.advisories) for source in info.sources)
        ),
        started=started,
        finished=finished,
        components=len(components),
        coverage=found.coverage,
        findings=apply_vex(found.findings, target, vex),
        not_compared=found.not_compared,
    )
