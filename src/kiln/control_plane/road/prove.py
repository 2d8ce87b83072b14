"""From a verdict to a record: attest and record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import kiln
from kiln.artifact.model import Artifact
from kiln.attestation.attest import attest
from kiln.attestation.model import AttestInputs, Builder
from kiln.authoring.lock.model import Lock
from kiln.control_plane.settings import Settings
from kiln.control_plane.trust import signing
from kiln.linux.files import write_atomic
from kiln.records.publish import record_build
from kiln.records.store import Records
from kiln.trial.model import TestReport
from kiln_wire import layout

BUILDER_ID: Final = "urn:kiln:builder:local:v1"
"""One id for each way of building: this one is a single process on one machine, its key beside the store."""
REMOTE_BUILDER_ID: Final = "urn:kiln:builder:local-with-remote-hosts:v1"
"""The same with layers that other hosts made, whose word was taken for them; the build log says which."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was signed and recorded, and the files that it left."""

    verification_id: str
    record_id: str
    files: tuple[str, ...]
    problems: tuple[str, ...] = ()
    """Of witnesses that did not sign."""


def prove(
    directory: Path,
    *,
    name: str,
    request_text: str,
    lock: Lock,
    artifacts: Sequence[Artifact],
    report: TestReport,
    settings: Settings,
    environment: Mapping[str, str],
    remote: bool,
    invocation_id: str,
    started: datetime,
    clock: Callable[[], datetime],
) -> Proof:
    """Sign all statements about the image and append its record. Raises KilnError(ATTESTATION, RECORD).

    *remote* means that other hosts made some of it.
    """
    signs = signing(settings, environment, int(clock().timestamp()))
    inputs = AttestInputs(
        directory=directory,
        name=name,
        request_text=request_text,
        lock=lock,
        artifacts=tuple(artifacts),
        report=report,
        builder=Builder(REMOTE_BUILDER_ID if remote else BUILDER_ID, kiln.__version__),
        invocation_id=invocation_id,
        started=started,
        finished=clock(),
    )
    for stale in (layout.LOG_PROOF, layout.RECORD, layout.RECORD_BUNDLE):
        # An earlier build's record must not outlive the statements that it belongs to, whatever is killed when.
        (directory / stale).unlink(missing_ok=True)
    attested = attest(inputs, signs.signer, signs.stamper)
    with Records(settings.state) as records:
        record = record_build(records, inputs, attested, signs.signer, now=clock(), stamper=signs.stamper)
        signs.log.catch_up(records)
    problems = signs.witness()
    write_atomic(directory / layout.LOG_PROOF, signs.log.prove(record.sequence - 1).data)
    written = [file.name for file in attested.files]
    return Proof(
        attested.verification.verification_id,
        record.id,
        (*written, layout.RECORD, layout.RECORD_BUNDLE, layout.LOG_PROOF),
        problems,
    )
