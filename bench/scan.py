"""Measurements of scans and SBOMs. Rows for bench/__main__.py: `rows()`; nothing here needs root or network."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.measure import Row, compare
from kiln.artifact.model import QCOW2, SQUASHFS, Artifact
from kiln.artifact.stock import Inventory, StockedPackage, TreeFile
from kiln.attestation.components import Bill, components
from kiln.attestation.cyclonedx import cyclonedx
from kiln.attestation.spdx import spdx
from kiln.authoring.lock.model import Lock, LockedPackage, LockedTree
from kiln.vulnerabilities.database import replace_sources
from kiln.vulnerabilities.model import Advisory, Affected, Event, Severity
from kiln.vulnerabilities.scan import scan
from kiln.vulnerabilities.targets import read_document
from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest

ADVISORIES: Final = 30_000
"""As many as Debian has for one release, in order of magnitude."""
SCANNED: Final = 1_000
LISTED: Final = 5_000
REPEATS: Final = 3
_VECTOR: Final = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"


def rows() -> list[Row]:
    """Return `trust.scan_1000` and `trust.sbom_5000`."""
    return [scan_1000(), sbom_5000()]


def scan_1000() -> Row:
    """Seconds of CPU for reading an SBOM of 1,000 packages and matching it with 30,000 advisories: ten for each
    package, one of which it is affected by.

    *Theirs* is json.loads of the same SBOM: what any scanner has to do first.
    """
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as directory:
        database = Path(directory, "advisories.db")
        replace_sources(database, [("bench", "bench", "", (_advisory(number) for number in range(ADVISORIES)))])
        sbom = canonical_json(cyclonedx(_bill(SCANNED, files=0)))

        def once() -> None:
            found = read_document(sbom, "sbom.cdx.json")
            time_text = "2026-01-01T00:00:00Z"
            result = scan(found.target, found.components, database, started=time_text, finished=time_text)
            if result.verdict != "findings" or result.components != SCANNED:
                raise AssertionError(result.verdict)

        ours, theirs = _best(once), _best(lambda: json.loads(sbom))
    return compare(
        "trust.scan_1000", ours, theirs, "s of CPU (theirs: json.loads of the SBOM)", "bench/scan.py scan_1000"
    )


def sbom_5000() -> Row:
    """Seconds of CPU for both SBOMs of 5,000 packages with 50,000 files; *theirs*: json.dumps of the same."""
    bill = _bill(LISTED, files=10)
    documents = (cyclonedx(bill), spdx(bill))

    def ours() -> None:
        canonical_json(cyclonedx(bill))
        canonical_json(spdx(bill))

    theirs = _best(lambda: [json.dumps(document) for document in documents])
    return compare("trust.sbom_5000", _best(ours), theirs, "s of CPU (theirs: json.dumps)", "bench/scan.py sbom_5000")


def _best(action: Callable[[], object]) -> float:
    """Return the least seconds of CPU of some runs: what others do on the machine only adds to it."""
    seconds = []
    for _ in range(REPEATS):
        started = time.process_time()
        action()
        seconds.append(time.process_time() - started)
    return min(seconds)


def _advisory(number: int) -> Advisory:
    # Most advisories of a distribution are fixed in what it ships: one in ten is not.
    fixed = "2.0-2" if number % 10 == number // (ADVISORIES // 10) else f"1.{number % 20}-1"
    ranges = ((Event("introduced", "0"), Event("fixed", fixed)),)
    return Advisory(
        id=f"DEBIAN-CVE-2026-{number:05}",
        modified="2026-01-01T00:00:00Z",
        aliases=(f"CVE-2026-{number:05}",),
        severities=(Severity("CVSS_V3", _VECTOR),) if number % 3 == 0 else (),
        affected=(Affected("Debian:12", f"package-{number % (ADVISORIES // 10):05}", ranges),),
    )


def _bill(count: int, *, files: int) -> Bill:
    names = [f"package-{number:05}" for number in range(count)]
    packages = tuple(_package(name, tuple(names[max(0, n - 4) : n])) for n, name in enumerate(names))
    lock = Lock(
        recipe_digest=Digest.of(b"recipe"),
        resolution_digest=Digest.of(b"resolution"),
        base="debian-12",
        architecture="amd64",
        epoch=1_700_000_000,
        indexes=(),
        trees=(LockedTree("image", packages),),
    )
    inventory = Inventory(
        packages=tuple(StockedPackage(name, "amd64", "2.0-1", "MIT AND GPL-2.0-or-later", "dep5") for name in names),
        files=tuple(_file(name, number) for name in names for number in range(files)),
        alterations=(),
        licence_texts=(),
        accounts=(),
        groups=(),
        units=(),
        sysctls=(),
    )
    artifacts = (
        Artifact("box.qcow2", QCOW2, Digest.of(b"disk"), 4, "disk"),
        Artifact("box.squashfs", SQUASHFS, Digest.of(b"root"), 4, "root"),
    )
    listed = components(lock, lock.tree("image"))
    return Bill("box", lock, Digest.of(b"lock"), artifacts, listed, inventory, "bench")


def _file(name: str, number: int) -> TreeFile:
    path = f"/usr/share/{name}/{number}"
    data = path.encode()
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return TreeFile(path, "file", 0o644, 0, 0, len(data), (f"{name}:amd64",), Digest.of(data), sha1)


def _package(name: str, depends: tuple[str, ...]) -> LockedPackage:
    return LockedPackage(
        name=name,
        version="2.0-1",
        architecture="amd64",
        mirror="debian",
        suite="bookworm",
        path=f"pool/main/p/{name}/{name}_2.0-1_amd64.deb",
        size_bytes=1000,
        digest=Digest.of(name.encode()),
        source=name,
        source_version="2.0-1",
        installed_size_bytes=4000,
        essential=False,
        depends=depends,
        reason="feature bench",
    )


if __name__ == "__main__":
    for row in rows():
        sys.stdout.write(f"{row.name:<20} {row.ours} {row.unit}  against {row.theirs}: ratio {row.ratio}\n")
