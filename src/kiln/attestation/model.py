"""What an attestation is made from, and what comes out of making it.

The image directory (its files are described in `kiln_wire.layout`) holds everything that is attested; this is only
what can't be read from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from kiln.artifact.model import Artifact
from kiln.authoring.lock.model import Lock
from kiln.trial.model import TestReport
from kiln_wire.digest import Digest
from kiln_wire.spki import VerifyingKey
from kiln_wire.verification import Verification


@dataclass(frozen=True, slots=True)
class Builder:
    """Who built: *id* decides how far provenance can be trusted, so each mode of building has its own."""

    id: str
    version: str
    """Of Kiln."""


@dataclass(frozen=True, slots=True)
class AttestInputs:
    """One finished build in its image directory.

    The directory must already hold request.json, recipe.json, resolution.json, kiln.lock, plan.json, both artifacts,
    squashfs-hashes.sha256, dpkg-manifest, and in evidence/ report.json, inventory.json, build.log and stages.json.
    scan.json and vex.json there get statements of their own. Every file below evidence/ is listed in the provenance as
    it is found, so nothing may be written there afterwards.
    """

    directory: Path
    name: str
    """Of the image, as in the resolution."""
    request_text: str
    """What the person typed, unchanged."""
    lock: Lock
    artifacts: tuple[Artifact, ...]
    """One with the role `disk` and one with the role `root`, with the digests that the export computed."""
    report: TestReport
    builder: Builder
    invocation_id: str
    """Of this run, unique."""
    started: datetime
    finished: datetime
    """When building and testing began and ended; with a time zone."""


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file that was written into the image directory, by its name below it."""

    name: str
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Attested:
    """What attesting has written, in the order of writing."""

    files: tuple[WrittenFile, ...]
    verification: Verification
    signer: VerifyingKey
