"""The chain of records in `<state>/records.db`: appended to, read, verified; never changed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from sqlalchemy import Connection, insert, select

from kiln.attestation.provenance import time_text
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.records.database import Database
from kiln.records.model import Record, Run
from kiln.records.schema import RECORD
from kiln_wire.canonical import CanonicalError, strict_loads
from kiln_wire.codec import DocumentError, decode
from kiln_wire.digest import Digest
from kiln_wire.finding import Finding

FILE_NAME: Final = "records.db"
MIN_PREFIX_LENGTH: Final = 4
_PREFIX: Final = re.compile(r"[0-9a-f]{1,64}")


class Records:
    """All records of one state directory. Safe to be used by several processes at once."""

    def __init__(self, state: Path) -> None:
        """Open or create the records below *state*. Raises KilnError(RECORD, ...)."""
        state.mkdir(parents=True, exist_ok=True)
        self._database = Database(state / FILE_NAME)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.close()

    def append(self, run: Run, *, now: datetime) -> Record:
        """Add *run* at the end of the chain and have it on disk. *now* must have a time zone.

        Raises KilnError(RECORD): `busy`, `no-space`, `unusable-database`, `broken-chain` (the last record can't be
        read, so nothing can follow it).
        """
        with self._database.write() as connection:
            last = connection.execute(
                select(RECORD.c.sequence, RECORD.c.document).order_by(RECORD.c.sequence.desc()).limit(1)
            ).first()
            record = Record(
                kind="kiln.record/v1",
                sequence=1 if last is None else last.sequence + 1,
                previous=None if last is None else Digest.of(last.document),
                recorded_at=time_text(now),
                run=run,
            )
            connection.execute(
                insert(RECORD).values(
                    sequence=record.sequence,
                    id=record.id,
                    recorded_at=record.recorded_at,
                    name=run.name,
                    verdict=run.verdict,
                    document=record.canonical,
                )
            )
        return record

    def recent(self, limit: int = 50, *, name: str = "") -> tuple[Record, ...]:
        """Return the newest records first, of the image *name* alone if it is given."""
        query = select(RECORD.c.document).order_by(RECORD.c.sequence.desc()).limit(limit)
        if name:
            query = query.where(RECORD.c.name == name)
        with self._database.read() as connection:
            return tuple(_read(document) for document in connection.execute(query).scalars())

    def get(self, prefix: str) -> Record:
        """Return the record whose id begins with *prefix*.

        Raises KilnError(RECORD): `bad-id` (not 4 to 64 hexadecimal digits), `no-record`, `ambiguous-id`.
        """
        if len(prefix) < MIN_PREFIX_LENGTH or _PREFIX.fullmatch(prefix) is None:
            raise _refused(
                "bad-id", f"{prefix[:80]!r} is not a record's id: 4 to 64 hexadecimal digits", ExitStatus.USAGE
            )
        query = select(RECORD.c.document).where(RECORD.c.id.between(prefix, prefix + "g")).limit(2)
        with self._database.read() as connection:
            found = connection.execute(query).scalars().all()
        if not found:
            raise _refused("no-record", f"no record's id begins with {prefix}", ExitStatus.NOT_FOUND)
        if len(found) > 1:
            raise _refused("ambiguous-id", f"several records' ids begin with {prefix}", ExitStatus.USAGE)
        return _read(found[0])

    def digests(self, start: int) -> Iterator[Digest]:
        """Yield the digests of the stored records from the one after *start* on, in the order of the chain."""
        query = select(RECORD.c.document).where(RECORD.c.sequence > start).order_by(RECORD.c.sequence)
        with self._database.read() as connection:
            for document in connection.execute(query).scalars():
                yield Digest.of(document)

    def verify_chain(self) -> tuple[Finding, ...]:
        """Return what is wrong with the chain; nothing if every record is whole and follows the one before it.

        A chain whose newest records were cut off looks whole: compare its head with one kept elsewhere.
        """
        with self._database.read() as connection:
            return tuple(_chain_findings(connection))


def _chain_findings(connection: Connection) -> list[Finding]:
    findings: list[Finding] = []
    previous: Digest | None = None
    for expected, row in enumerate(connection.execute(select(RECORD).order_by(RECORD.c.sequence)), start=1):
        component = f"record {row.sequence}"

        def add(reason: str, wanted: object, got: object, component: str = component) -> None:
            findings.append(Finding("records", component, reason, str(wanted), str(got)))

        digest = Digest.of(row.document)
        if row.sequence != expected:
            add("gap", expected, row.sequence)
        if row.id != digest.hex:
            add("changed", row.id, digest.hex)
        try:
            record = _read(row.document)
        except KilnError as error:
            add("malformed-record", "a kiln.record/v1 document in canonical form", error.detail)
        else:
            if record.previous != previous:
                add("broken-chain", previous, record.previous)
            stated = (row.sequence, row.recorded_at, row.name, row.verdict)
            written = (record.sequence, record.recorded_at, record.run.name, record.run.verdict)
            if stated != written:
                add("wrong-columns", written, stated)
        previous = digest
    return findings


def _read(document: bytes) -> Record:
    try:
        record = decode(Record, strict_loads(document))
        if record.canonical != document:
            raise CanonicalError("the document is not in canonical form")
    except (CanonicalError, DocumentError) as error:
        raise KilnError(
            Domain.RECORD,
            "malformed-record",
            "a record can't be read",
            detail=str(error),
            hint="`kiln records check` shows which; restore records.db from a backup",
        ) from error
    return record


def _refused(reason: str, message: str, exit_status: ExitStatus) -> KilnError:
    return KilnError(Domain.RECORD, reason, message, hint="`kiln records list` shows the ids", exit_status=exit_status)
