"""Records are only ever appended, each holds the digest of the one before, and any change shows."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kiln.errors import Domain, ExitStatus, KilnError
from kiln.records.model import Run
from kiln.records.publish import record_failure
from kiln.records.store import Records
from kiln_wire.digest import Digest

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_run(name: str = "box", **values: object) -> Run:
    fields: dict[str, object] = {
        "name": name,
        "verdict": "pass",
        "request_text": "a box with ssh",
        "recorded_by": "root@here",
        "kiln_version": "0.1.0",
        "invocation_id": "run-1",
        "started": "2026-01-02T03:00:00Z",
        "finished": "2026-01-02T03:04:00Z",
    }
    return Run(**{**fields, **values})  # type: ignore[arg-type]


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    with Records(tmp_path) as opened:
        yield opened


def _tamper(state: Path, *statements: str) -> None:
    """What somebody with the file in hand can do: the triggers are in the file, too."""
    connection = sqlite3.connect(state / "records.db")
    for trigger in ("record_refuses_UPDATE", "record_refuses_DELETE", "record_in_order"):
        connection.execute(f"DROP TRIGGER {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def _reasons(records: Records) -> set[tuple[str, str]]:
    return {(finding.component, finding.reason) for finding in records.verify_chain()}


def test_each_record_holds_the_digest_of_the_one_before(records: Records) -> None:
    first, second = (records.append(make_run(name), now=NOW) for name in ("a", "b"))
    assert (first.sequence, first.previous) == (1, None)
    assert (second.sequence, second.previous) == (2, Digest.of(first.canonical))
    assert records.verify_chain() == ()


def test_records_survive_closing_and_come_newest_first(tmp_path: Path) -> None:
    with Records(tmp_path) as records:
        written = [records.append(make_run(name), now=NOW + timedelta(days=3)) for name in ("a", "b", "a")]
    with Records(tmp_path) as records:
        assert list(records.recent()) == written[::-1]
        assert list(records.recent(name="a")) == [written[2], written[0]]
        assert list(records.recent(1)) == [written[2]]


def test_get_by_a_prefix_of_the_id(records: Records) -> None:
    written = [records.append(make_run(str(number)), now=NOW) for number in range(5)]
    for record in written:
        assert records.get(record.id[:12]) == record
        assert records.get(record.id) == record


@pytest.mark.parametrize("prefix", ["", "abc", "ABCD", "abcg", "%%%%", "a" * 65, "____"])
def test_a_prefix_that_is_no_id_is_refused(records: Records, prefix: str) -> None:
    with pytest.raises(KilnError) as caught:
        records.get(prefix)
    assert (caught.value.domain, caught.value.reason) == (Domain.RECORD, "bad-id")


def test_an_unknown_id_is_not_found(records: Records) -> None:
    records.append(make_run(), now=NOW)
    with pytest.raises(KilnError) as caught:
        records.get("00000000")
    assert (caught.value.reason, caught.value.exit_status) == ("no-record", ExitStatus.NOT_FOUND)


def test_an_ambiguous_prefix_is_refused(records: Records, tmp_path: Path) -> None:
    record = records.append(make_run(), now=NOW)
    _tamper(
        tmp_path, f"INSERT INTO record SELECT 2, '{record.id[:8]}', recorded_at, name, verdict, document FROM record"
    )
    with pytest.raises(KilnError) as caught:
        records.get(record.id[:6])
    assert caught.value.reason == "ambiguous-id"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE record SET verdict = 'pass'",
        "DELETE FROM record",
        "INSERT OR REPLACE INTO record SELECT * FROM record",
        "INSERT INTO record SELECT 7, 'x', recorded_at, name, verdict, document FROM record",
    ],
)
def test_the_database_itself_refuses_a_change(records: Records, tmp_path: Path, statement: str) -> None:
    records.append(make_run(), now=NOW)
    connection = sqlite3.connect(tmp_path / "records.db")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE record SET document = replace(document, 'root@here', 'root@away') WHERE sequence = 2",
            {("record 2", "changed"), ("record 3", "broken-chain")},
        ),
        ("UPDATE record SET verdict = 'fail' WHERE sequence = 2", {("record 2", "wrong-columns")}),
        ("UPDATE record SET id = 'x' WHERE sequence = 2", {("record 2", "changed")}),
        ("DELETE FROM record WHERE sequence = 2", {("record 3", "gap"), ("record 3", "broken-chain")}),
        (
            "UPDATE record SET document = X'7B7D' WHERE sequence = 3",
            {("record 3", "changed"), ("record 3", "malformed-record")},
        ),
    ],
)
def test_a_change_behind_the_triggers_back_breaks_the_chain(
    records: Records, tmp_path: Path, statement: str, expected: set[tuple[str, str]]
) -> None:
    for name in ("a", "b", "c"):
        records.append(make_run(name), now=NOW)
    statement = statement.replace("replace(document", "CAST(replace(CAST(document AS TEXT)").replace(
        "'root@away')", "'root@away') AS BLOB)"
    )
    _tamper(tmp_path, statement)
    assert _reasons(records) == expected


_APPENDER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_records_chain import make_run
from kiln.records.store import Records
with Records(Path(sys.argv[1])) as records:
    for number in range(15):
        records.append(make_run(f"{sys.argv[3]}-{number}"), now=datetime.now(UTC))
"""


def test_processes_that_append_at_once_make_one_chain(tmp_path: Path) -> None:
    state, here = tmp_path / "state", str(Path(__file__).parent)
    running = [subprocess.Popen([sys.executable, "-c", _APPENDER, str(state), here, str(one)]) for one in range(3)]
    assert [process.wait(600) for process in running] == [0, 0, 0]
    with Records(state) as records:
        assert records.verify_chain() == ()
        assert len(records.recent()) == 45
        for one in range(3):
            mine = [record.run.name for record in records.recent() if record.run.name.startswith(f"{one}-")]
            assert mine == [f"{one}-{number}" for number in range(14, -1, -1)]


def test_a_failure_is_a_record_with_the_errors_document(records: Records) -> None:
    error = KilnError(Domain.FETCH, "mirror-down", "no answer", hint="try later", retriable=True)
    record = record_failure(
        records,
        error,
        request_text="a box",
        kiln_version="0.1.0",
        invocation_id="run-2",
        started=NOW,
        now=NOW + timedelta(seconds=9),
    )
    again = records.get(record.id)
    assert again.run.verdict == "error"
    assert again.run.error == error.to_document()
    assert records.verify_chain() == ()


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_bytes(b"not a database, but long enough to look like one" * 50)
    with pytest.raises(KilnError) as caught:
        Records(tmp_path)
    assert (caught.value.domain, caught.value.reason) == (Domain.RECORD, "unusable-database")


def test_a_database_of_a_newer_kiln_is_refused(tmp_path: Path) -> None:
    with Records(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / "records.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(KilnError) as caught:
        Records(tmp_path)
    assert caught.value.reason == "unknown-schema"


def test_the_migrations_lead_to_the_schema_that_the_code_uses(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import create_engine

    from kiln.records.schema import HEAD, METADATA

    with Records(tmp_path):
        pass
    with create_engine(f"sqlite:///{tmp_path}/records.db").connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, METADATA) == []
        assert context.get_current_revision() == HEAD


def test_the_newest_migration_is_the_head_that_the_code_names() -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from kiln.records import database
    from kiln.records.schema import HEAD

    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD
