"""The road's scan for known vulnerabilities: its result and its VEX document become evidence."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import kiln
from kiln.artifact.model import Artifact
from kiln.attestation.provenance import time_text
from kiln.authoring.lock.document import lock_digest
from kiln.authoring.lock.model import Lock
from kiln.control_plane.road.ledger import Ledger, fingerprint
from kiln.control_plane.road.steps import Running
from kiln.control_plane.scanning import read_statements, scan_target
from kiln.control_plane.settings import Settings
from kiln.errors import KilnError
from kiln.events.model import Notice, Sink
from kiln.linux.files import write_atomic
from kiln.vulnerabilities.database import Database
from kiln.vulnerabilities.result import ScanResult, Target, read_scan, scan_bytes
from kiln.vulnerabilities.targets import Scannable, locked_components
from kiln.vulnerabilities.vex import openvex_document
from kiln_wire import layout
from kiln_wire.canonical import canonical_json

AUTHOR: Final = "Kiln"


def examine(
    directory: Path,
    disk: Artifact,
    lock: Lock,
    settings: Settings,
    ledger: Ledger,
    running: Running,
    sink: Sink,
    clock: Callable[[], datetime],
) -> None:
    """Scan the locked packages, and write `evidence/scan.json` and `evidence/vex.json`.

    Raises KilnError(VULNERABILITY). That no advisory is about this image's packages ends no build: it is told, and
    there is no result.
    """
    vex, digests = read_statements(settings.vex)
    with Database(settings.advisory_database) as database:
        version = str(database.info().version)
    inputs = fingerprint("scan", str(disk.digest), str(lock_digest(lock)), version, digests, kiln.__version__)
    running.cached = ledger.finished("scan", inputs) is not None
    if not running.cached:
        target = Target("image", disk.name, disk.digest)
        try:
            found = scan_target(
                Scannable(target, locked_components(lock), 0),
                settings.advisory_database,
                vex,
                lambda: time_text(clock()),
            )
        except KilnError as error:
            if error.reason != "nothing-scanned":
                raise
            forget(directory)
            sink.emit(Notice("warning", f"known vulnerabilities: {error.message}"))
            running.summary = "not covered by the database"
            return
        write_atomic(directory / layout.SCAN, scan_bytes(found))
        write_atomic(directory / layout.VEX, canonical_json(openvex_document(found, author=AUTHOR)))
        ledger.finish("scan", inputs, (layout.SCAN, layout.VEX), {})
    running.summary = summary(read_scan((directory / layout.SCAN).read_bytes(), layout.SCAN))


def forget(directory: Path) -> None:
    """Remove an earlier result: it must not be taken for one of this build."""
    for name in (layout.SCAN, layout.VEX):
        with suppress(FileNotFoundError):
            (directory / name).unlink()


def summary(result: ScanResult) -> str:
    """Return how many findings of which rating there are, in one line."""
    counting = [item for item in result.findings if item.counts]
    words = [
        f"{count} {rating}"
        for rating in ("critical", "high", "medium", "low", "unknown", "none")
        if (count := sum(item.rating == rating for item in counting))
    ]
    text = f"{len(counting)} known vulnerabilities" + (f" ({', '.join(words)})" if words else "")
    hidden = len(result.findings) - len(counting)
    return (
        text + (f", {hidden} not affecting (VEX)" if hidden else "") + ("" if result.complete else ", not all covered")
    )
