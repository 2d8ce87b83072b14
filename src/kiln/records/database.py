"""The SQLite file behind the records: opening it, its schema, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DatabaseError, OperationalError

from kiln.errors import Domain, ExitStatus, KilnError, disk_full
from kiln.linux.locks import exclusive
from kiln.records.schema import HEAD

BUSY_TIMEOUT_MILLISECONDS: Final = 30_000
_MIGRATIONS: Final = Path(__file__).with_name("migrations")


class Database:
    """An SQLite file in WAL mode; writers queue up by BEGIN IMMEDIATE, readers never wait."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = _engine(path)
        with self._errors():
            self._migrate()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Begin a transaction that sees one state. Raises KilnError(RECORD, ...)."""
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Begin a transaction that is alone in writing from its start on. Raises KilnError(RECORD, ...)."""
        with self._errors(), self._engine.execution_options(kiln_write=True).begin() as connection:
            yield connection

    def _migrate(self) -> None:
        if self._revision() == HEAD:
            return
        # Alembic is imported only when it has something to do: it costs more than everything else here
        from alembic import command  # noqa: PLC0415
        from alembic.config import Config  # noqa: PLC0415
        from alembic.util.exc import CommandError  # noqa: PLC0415

        config = Config()
        config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
        with exclusive(self._path.with_name(self._path.name + ".lock")), self._engine.begin() as connection:
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                raise KilnError(
                    Domain.RECORD,
                    "unknown-schema",
                    f"{self._path} was written by another version of Kiln",
                    detail=str(error),
                    hint="use the newer Kiln, or another state directory",
                    exit_status=ExitStatus.INFRASTRUCTURE,
                ) from error

    def _revision(self) -> str | None:
        with self._engine.begin() as connection:
            found = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'")).first()
            if found is None:
                return None
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            problem = str(error.orig)
            if "locked" in problem or "busy" in problem:
                raise KilnError(
                    Domain.RECORD,
                    "busy",
                    f"another process is writing to {self._path}",
                    hint="try again when it has finished",
                    exit_status=ExitStatus.INFRASTRUCTURE,
                    retriable=True,
                ) from error
            if "full" in problem:
                raise disk_full(self._path, Domain.RECORD) from error
            raise self._damaged(problem) from error
        except DatabaseError as error:
            raise self._damaged(str(error.orig)) from error

    def _damaged(self, problem: str) -> KilnError:
        return KilnError(
            Domain.RECORD,
            "unusable-database",
            f"{self._path} can't be used: {problem}",
            hint="look at the file's rights and at the disk; if the file is damaged, restore it from a backup",
            exit_status=ExitStatus.INFRASTRUCTURE,
        )


def _engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)))

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where this module says, not where pysqlite guesses
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MILLISECONDS}",
            "journal_mode = WAL",
            "synchronous = FULL",
            "trusted_schema = OFF",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("kiln_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
