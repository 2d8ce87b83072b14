"""Scans with the settings of this machine: which database, which VEX documents, what time it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from kiln.attestation.signer import Signer, sign_statement
from kiln.attestation.vulnerabilities import vulnerabilities_predicate
from kiln.control_plane.settings import Settings
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Sink
from kiln.linux.files import read_limited, write_atomic
from kiln.linux.locks import exclusive
from kiln.vulnerabilities.database import DatabaseInfo
from kiln.vulnerabilities.model import RATINGS, AdvisorySource, Rating
from kiln.vulnerabilities.result import ScanResult
from kiln.vulnerabilities.scan import scan
from kiln.vulnerabilities.sources import update
from kiln.vulnerabilities.targets import Scannable
from kiln.vulnerabilities.vex import Statement, read_vex
from kiln_wire import layout
from kiln_wire.digest import Digest
from kiln_wire.dsse import read_bundle
from kiln_wire.statement import VULNERABILITIES_TYPE, read_statement, statement_json

MAX_VEX_BYTES: Final = 64 * 1024 * 1024


def read_statements(paths: Iterable[Path]) -> tuple[list[tuple[Statement, ...]], list[str]]:
    """Return the statements of each VEX document, and the documents' digests; a folder stands for its `.json` files.

    Raises KilnError(VULNERABILITY) `no-vex` or `bad-vex`.
    """
    documents, digests = [], []
    for path in paths:
        if not path.exists():
            raise KilnError(
                Domain.VULNERABILITY,
                "no-vex",
                f"there is no {path}",
                hint="give an OpenVEX or CycloneDX file, or a folder of them",
                exit_status=ExitStatus.NOT_FOUND,
            )
        for file in sorted(path.rglob("*.json")) if path.is_dir() else [path]:
            data = read_limited(file, MAX_VEX_BYTES)
            documents.append(read_vex(data, str(file)))
            digests.append(str(Digest.of(data)))
    return documents, digests


def scan_target(
    scannable: Scannable, database: Path, vex: Sequence[tuple[Statement, ...]], now: Callable[[], str]
) -> ScanResult:
    """Scan what was read. Raises KilnError(VULNERABILITY)."""
    started = now()
    result = scan(scannable.target, scannable.components, database, vex=vex, started=started, finished=started)
    return replace(result, finished=now())


def rating_named(text: str) -> Rating:
    """Return the rating of that name. Raises KilnError(SETTINGS, "bad-option")."""
    for rating in RATINGS:
        if text == rating:
            return rating
    raise KilnError(
        Domain.SETTINGS,
        "bad-option",
        f"there is no rating `{text}`",
        hint=f"choose one of {', '.join(RATINGS)}",
        exit_status=ExitStatus.USAGE,
    )


def configured_sources(settings: Settings) -> tuple[AdvisorySource, ...]:
    """Return the sources of the settings. Raises KilnError(VULNERABILITY, "no-sources")."""
    if not settings.advisories:
        raise KilnError(
            Domain.VULNERABILITY,
            "no-sources",
            "the settings name no source of advisories",
            hint="add a table `[advisories]` to kiln.toml, or use `kiln advisories import`",
            exit_status=ExitStatus.USAGE,
        )
    return settings.advisories


def update_database(sources: Sequence[AdvisorySource], settings: Settings, sink: Sink) -> DatabaseInfo:
    """Put the advisories of *sources* into this machine's database. Raises KilnError."""
    from kiln.fetch.client import Fetcher  # noqa: PLC0415 - a folder needs no HTTP client
    from kiln.fetch.mirrors import Mirrors  # noqa: PLC0415

    def open_fetcher() -> Fetcher:
        return Fetcher(Mirrors.of_this_machine(dict(settings.mirrors)), sink)

    database = settings.advisory_database
    with exclusive(database.with_suffix(".lock"), blocking=False):
        return update(database, sources, open_fetcher, sink)


def sign_scan(target: Path, result: ScanResult, signer: Signer) -> Path:
    """Sign the result about the subjects of an attested image, in the place of an earlier one.

    Raises KilnError(VULNERABILITY, "not-an-image") for anything else than an attested image directory.
    """
    directory = target if target.is_dir() else target.parent
    try:
        attested = (directory / layout.VERIFICATION_BUNDLE).read_bytes()
    except OSError as error:
        raise KilnError(
            Domain.VULNERABILITY,
            "not-an-image",
            f"{target} is no attested image, so there is nothing to sign a result about",
            hint="leave out --sign, or give an image directory that `kiln build` has finished",
            exit_status=ExitStatus.USAGE,
        ) from error
    subjects = read_statement(read_bundle(attested).unverified_payload).subjects
    statement = statement_json(subjects, VULNERABILITIES_TYPE, vulnerabilities_predicate(result))
    path = directory / layout.SCAN_BUNDLE
    write_atomic(path, sign_statement(signer, statement))
    return path
