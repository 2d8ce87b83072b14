"""Put the record of a build into the chain, and beside the image, signed."""

from __future__ import annotations

from datetime import datetime

from kiln.attestation.model import Attested, AttestInputs
from kiln.attestation.provenance import time_text
from kiln.attestation.signer import Signer, Stamper, sign_statement
from kiln.errors import Domain, KilnError
from kiln.linux.files import write_atomic
from kiln.records.model import FilePointer, Record, Run, who_records
from kiln.records.store import Records
from kiln_wire import layout
from kiln_wire.codec import encode
from kiln_wire.digest import Digest
from kiln_wire.files import DirectoryFiles, FileError
from kiln_wire.statement import RECORD_TYPE, Subject, statement_json


def record_build(
    records: Records,
    inputs: AttestInputs,
    attested: Attested,
    signer: Signer,
    *,
    now: datetime,
    stamper: Stamper | None = None,
) -> Record:
    """Append the record of an attested build; write record.json and its signed statement into the image directory.

    The chain comes first: a kill in between leaves a whole image directory, only without its record.json.
    Raises KilnError as Records.append does, and KilnError(RECORD, "missing-evidence") if a file can't be read any more.
    """
    verification = attested.verification
    run = Run(
        name=inputs.name,
        verdict=verification.tests.verdict,
        request_text=inputs.request_text,
        recorded_by=who_records(),
        kiln_version=inputs.builder.version,
        invocation_id=inputs.invocation_id,
        started=time_text(inputs.started),
        finished=time_text(inputs.finished),
        base=inputs.lock.base,
        architecture=inputs.lock.architecture,
        artifacts=inputs.artifacts,
        directory=str(inputs.directory),
        files=_pointers(inputs),
        verification_id=verification.verification_id,
        signer=attested.signer.hint,
    )
    record = records.append(run, now=now)
    subjects = [Subject(artifact.name, artifact.digest) for artifact in inputs.artifacts]
    statement = statement_json(subjects, RECORD_TYPE, encode(record))
    write_atomic(inputs.directory / layout.RECORD_BUNDLE, sign_statement(signer, statement, stamper))
    write_atomic(inputs.directory / layout.RECORD, record.canonical)
    return record


def record_failure(
    records: Records,
    error: KilnError,
    *,
    request_text: str,
    kiln_version: str,
    invocation_id: str,
    started: datetime,
    now: datetime,
    name: str = "",
) -> Record:
    """Append the record of a run that an error ended. Raises KilnError as Records.append does."""
    run = Run(
        name=name,
        verdict="fail" if error.domain is Domain.TRIAL and error.reason == "assertion-failed" else "error",
        request_text=request_text,
        recorded_by=who_records(),
        kiln_version=kiln_version,
        invocation_id=invocation_id,
        started=time_text(started),
        finished=time_text(now),
        error=error.to_document(),
    )
    return records.append(run, now=now)


def _pointers(inputs: AttestInputs) -> tuple[FilePointer, ...]:
    """Return every file of the directory but the artifacts, which the record lists by themselves, and itself."""
    left_out = {artifact.name for artifact in inputs.artifacts} | {
        layout.RECORD,
        layout.RECORD_BUNDLE,
        layout.LOG_PROOF,
    }
    with DirectoryFiles(inputs.directory) as files:
        try:
            sizes = {entry.name: entry.size_bytes for entry in files.entries() if entry.name not in left_out}
        except FileError as error:
            raise _missing(inputs, error) from error
        digests = files.digests(sizes)
    pointers = []
    for name, digest in digests.items():
        if not isinstance(digest, Digest):
            raise _missing(inputs, digest) from digest
        pointers.append(FilePointer(name, digest, sizes[name]))
    return tuple(pointers)


def _missing(inputs: AttestInputs, error: FileError) -> KilnError:
    return KilnError(
        Domain.RECORD,
        "missing-evidence",
        f"{inputs.directory / error.name} {error.problem}",
        hint="the image directory was changed after it was attested; run `kiln build` again",
    )
