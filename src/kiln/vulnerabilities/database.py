"""The local database of advisories: one SQLite file, replaced as a whole, equal for equal advisories.

It holds nothing of when it was made. Its version is a digest over all of its rows, so two machines can tell whether
they scanned with the same knowledge.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux.files import sync_directory
from kiln.vulnerabilities.model import Advisory, Affected
from kiln.vulnerabilities.stored import pack_advisory, pack_affected, unpack_advisory, unpack_affected
from kiln_wire.digest import Digest

KIND: Final = "kiln.advisories/v1"
FILE_NAME: Final = "advisories.db"
_SCHEMA: Final = """
create table meta(key text primary key, value text not null) strict, without rowid;
create table source(name text primary key, origin text not null, revision text not null, advisories integer not null)
    strict, without rowid;
create table advisory(source text not null, name text not null, modified text not null, withdrawn text not null,
    document text not null, primary key(name, source)) strict, without rowid;
create table alias(alias text not null, source text not null, name text not null,
    primary key(alias, source, name)) strict, without rowid;
create table affected(ecosystem text not null, package text not null, source text not null, name text not null,
    document text not null, primary key(ecosystem, package, source, name)) strict, without rowid;
"""
T = TypeVar("T")

_TABLES: Final = ("source", "advisory", "alias", "affected")


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A source whose advisories are in. *origin*: folder or mirror; *revision*: of a checkout, or empty."""

    name: str
    origin: str
    revision: str
    advisories: int


@dataclass(frozen=True, slots=True)
class DatabaseInfo:
    """What a database holds. *modified*: the newest time that an advisory carries, empty where none has one."""

    version: Digest
    modified: str
    sources: tuple[SourceInfo, ...]
    ecosystems: tuple[str, ...]

    @property
    def advisories(self) -> int:
        """How many there are."""
        return sum(source.advisories for source in self.sources)


def replace_sources(path: Path, incoming: Iterable[tuple[str, str, str, Iterable[Advisory]]]) -> DatabaseInfo:
    """Replace the advisories of each incoming source (name, origin, revision, advisories); others stay as they are.

    The file is made anew beside *path* and takes its place at the end: a reader sees the old one or the new one, and a
    refusal leaves the old one. Raises KilnError(VULNERABILITY) "unusable-database", and what reading advisories raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{secrets.token_hex(6)}.staging")
    finished = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with closing(sqlite3.connect(staging, isolation_level=None)) as connection:
            connection.executescript("pragma journal_mode=off; pragma synchronous=off;" + _SCHEMA + "begin;")
            if path.exists():
                _copy(connection, path)
            for name, origin, revision, advisories in incoming:
                _replace(connection, name, origin, revision, advisories)
            connection.execute("insert into meta values('kind', ?), ('version', ?)", (KIND, str(_version(connection))))
            connection.execute("commit")
            # Rows in the order of their keys on fresh pages: equal content gives equal bytes.
            connection.execute("vacuum into ?", (str(finished),))
        descriptor = os.open(finished, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        finished.replace(path)
        sync_directory(path.parent)
    except sqlite3.Error as error:
        raise _unusable(path, str(error)) from error
    finally:
        for leftover in (staging, finished):
            with suppress(FileNotFoundError):
                leftover.unlink()
    with Database(path) as database:
        return database.info()


def _copy(connection: sqlite3.Connection, path: Path) -> None:
    with Database(path):
        pass  # refuses what is not a database of ours
    connection.execute("commit")
    connection.execute("attach ? as old", (str(path),))
    connection.execute("begin")
    for table in _TABLES:
        connection.execute(f"insert into {table} select * from old.{table}")  # noqa: S608 - names of our own
    connection.execute("commit")
    connection.execute("detach old")
    connection.execute("begin")


def _replace(
    connection: sqlite3.Connection, name: str, origin: str, revision: str, advisories: Iterable[Advisory]
) -> None:
    for table in ("advisory", "alias", "affected"):
        connection.execute(f"delete from {table} where source = ?", (name,))  # noqa: S608
    connection.execute("delete from source where name = ?", (name,))
    for advisory in advisories:
        known = connection.execute(
            "select modified, document from advisory where source = ? and name = ?", (name, advisory.id)
        ).fetchone()
        document = pack_advisory(advisory)
        if known is not None:
            if (known[0], known[1]) >= (advisory.modified, document):
                continue  # the newer one counts, in whatever order they come
            for table in ("advisory", "alias", "affected"):
                connection.execute(f"delete from {table} where source = ? and name = ?", (name, advisory.id))  # noqa: S608
        connection.execute(
            "insert into advisory values(?, ?, ?, ?, ?)",
            (name, advisory.id, advisory.modified, advisory.withdrawn, document),
        )
        connection.executemany(
            "insert or ignore into alias values(?, ?, ?)", [(alias, name, advisory.id) for alias in advisory.aliases]
        )
        by_package: dict[tuple[str, str], list[Affected]] = {}
        for item in advisory.affected:
            by_package.setdefault((item.ecosystem, item.package), []).append(item)
        connection.executemany(
            "insert into affected values(?, ?, ?, ?, ?)",
            [
                (ecosystem, package, name, advisory.id, pack_affected(items))
                for (ecosystem, package), items in by_package.items()
            ],
        )
    (count,) = connection.execute("select count(*) from advisory where source = ?", (name,)).fetchone()
    connection.execute("insert into source values(?, ?, ?, ?)", (name, origin, revision, count))


def _version(connection: sqlite3.Connection) -> Digest:
    state = hashlib.sha256()
    for table in _TABLES:
        state.update(f"{table}\n".encode())
        for row in connection.execute(f"select * from {table}"):  # noqa: S608 - without rowid: in the order of keys
            state.update(json.dumps(row, separators=(",", ":")).encode("utf-8") + b"\n")
    return Digest("sha256", state.hexdigest())


class Database:
    """Reads a database; use as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises KilnError(VULNERABILITY) `no-database` or `unusable-database`."""
        if not path.exists():
            raise KilnError(
                Domain.VULNERABILITY,
                "no-database",
                f"there is no database of advisories at {path}, so nothing can be said about vulnerabilities",
                hint="name sources under `[advisories]` in kiln.toml and run `kiln advisories update`, "
                "or run `kiln advisories import` with a folder of OSV documents",
                exit_status=ExitStatus.NOT_FOUND,
            )
        self._path = path
        try:
            self._connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
            meta = dict(self._connection.execute("select key, value from meta"))
        except sqlite3.Error as error:
            raise _unusable(path, str(error)) from error
        if meta.get("kind") != KIND:
            self._connection.close()
            raise _unusable(path, f"it is not a {KIND} file")
        self._meta_version: str = meta["version"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def info(self) -> DatabaseInfo:
        """Return what it holds."""
        rows = self._rows("select name, origin, revision, advisories from source order by name")
        (modified,) = next(self._rows("select coalesce(max(modified), '') from advisory"))
        ecosystems = tuple(row[0] for row in self._rows("select distinct ecosystem from affected order by ecosystem"))
        return DatabaseInfo(
            Digest.parse(self._meta_version),
            "" if str(modified).startswith("1970") else str(modified),
            tuple(SourceInfo(str(a), str(b), str(c), int(d)) for a, b, c, d in rows),
            ecosystems,
        )

    def check(self) -> bool:
        """Whether the rows have the digest that the file says: nobody changed it behind Kiln's back."""
        try:
            return bool(str(_version(self._connection)) == self._meta_version)
        except sqlite3.Error as error:
            raise _unusable(self._path, str(error)) from error

    def affecting(self, ecosystem: str, package: str) -> Iterator[tuple[str, tuple[Affected, ...], str]]:
        """Yield the advisories about a package that were not withdrawn: name, what it says, and the packed rest.

        Most of them turn out to be about other versions: the rest is for `advisory` where one does not.
        """
        query = """select a.name, f.document, a.document from affected f
            join advisory a on a.source = f.source and a.name = f.name
            where f.ecosystem = ? and f.package = ? and a.withdrawn = ''"""
        for name, affected, document in self._rows(query, (ecosystem, package)):
            yield name, self._unpacked(lambda text: unpack_affected(ecosystem, package, text), affected), document

    def named(self, name: str) -> tuple[Advisory, ...]:
        """Return the advisories that have this name, or this alias, and were not withdrawn."""
        query = """select document from advisory where name = ?1 and withdrawn = ''
            union select a.document from alias l join advisory a on a.source = l.source and a.name = l.name
            where l.alias = ?1 and a.withdrawn = '' order by 1"""
        return tuple(self.advisory(row[0]) for row in self._rows(query, (name,)))

    def advisory(self, packed: str) -> Advisory:
        """Return an advisory that `affecting` gave packed. Raises KilnError(VULNERABILITY, "unusable-database")."""
        return self._unpacked(unpack_advisory, packed)

    def _unpacked(self, unpack: Callable[[str], T], text: str) -> T:
        try:
            return unpack(text)
        except (ValueError, TypeError) as error:
            raise _unusable(self._path, f"a row is not as it was written: {error}") from None

    def _rows(self, query: str, parameters: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
        try:
            yield from self._connection.execute(query, parameters)
        except sqlite3.Error as error:
            raise _unusable(self._path, str(error)) from error


def _unusable(path: Path, problem: str) -> KilnError:
    return KilnError(
        Domain.VULNERABILITY,
        "unusable-database",
        f"{path} cannot be used: {problem}",
        hint="remove the file and run `kiln advisories update`",
        exit_status=ExitStatus.INFRASTRUCTURE,
    )
