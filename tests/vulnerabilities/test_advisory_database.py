"""The database is equal for equal advisories, is replaced as a whole, and refuses what is garbled with its place."""

from __future__ import annotations

import gzip
import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest
from advisory_sample import HIGH, affected, database, osv, until, write
from hypothesis import given, settings
from hypothesis import strategies as st

from kiln.errors import KilnError
from kiln.events.model import CollectingSink, NullSink, Progress
from kiln.fetch.client import Fetcher
from kiln.fetch.mirrors import Mirrors
from kiln.vulnerabilities import database as database_module
from kiln.vulnerabilities.database import Database, replace_sources
from kiln.vulnerabilities.model import AdvisorySource
from kiln.vulnerabilities.reading import read_advisories
from kiln.vulnerabilities.sources import update

ONE = osv("CVE-2026-0001", affected=[affected("Debian:12", "openssl", *until("2"))])
TWO = osv("CVE-2026-0002", affected=[affected("PyPI", "jinja2", *until("2"))])
TRACKER = {
    "openssl": {
        "CVE-2026-0001": {
            "description": "a hole",
            "scope": "remote",
            "releases": {
                "bookworm": {"status": "resolved", "fixed_version": "3.0.5-1", "urgency": "high"},
                "trixie": {"status": "resolved", "fixed_version": "0", "urgency": "not yet assigned"},
                "sid": {"status": "open", "urgency": "low**"},
            },
        },
        "TEMP-0000001-ABCDEF": {"releases": {"bookworm": {"status": "open", "urgency": "unimportant"}}},
    }
}
NVD = {
    "resultsPerPage": 1,
    "vulnerabilities": [
        {
            "cve": {
                "id": "CVE-2026-0001",
                "lastModified": "2026-01-02T03:04:05.123",
                "descriptions": [{"lang": "en", "value": "from NVD"}],
                "metrics": {"cvssMetricV31": [{"cvssData": {"vectorString": HIGH, "baseScore": 7.5}}]},
                "configurations": [
                    {
                        "nodes": [
                            {
                                "cpeMatch": [
                                    {
                                        "vulnerable": True,
                                        "criteria": "cpe:2.3:a:openssl:openssl:*:*:*:*:*:*:*:*",
                                        "versionEndExcluding": "3.0.5",
                                    }
                                ]
                            }
                        ]
                    }
                ],
            }
        }
    ],
}
GITHUB = [
    {
        "ghsa_id": "GHSA-aaaa-bbbb-cccc",
        "cve_id": "CVE-2026-0003",
        "summary": "bad",
        "severity": "high",
        "updated_at": "2026-01-02T03:04:05Z",
        "vulnerabilities": [
            {"package": {"ecosystem": "pip", "name": "Flask"}, "vulnerable_version_range": ">= 1.0, < 2.3.2"},
            {"package": {"ecosystem": "other", "name": "x"}, "vulnerable_version_range": "= 1"},
        ],
    }
]


def test_equal_advisories_give_equal_bytes_in_whatever_order_they_come(tmp_path: Path) -> None:
    database(tmp_path / "a.db", ONE, TWO)
    database(tmp_path / "b.db", TWO, ONE)
    assert (tmp_path / "a.db").read_bytes() == (tmp_path / "b.db").read_bytes()


def test_of_two_advisories_with_one_name_the_newer_counts(tmp_path: Path) -> None:
    newer = {**ONE, "modified": "2026-06-01T00:00:00Z", "withdrawn": "2026-06-01T00:00:00Z"}
    for order, name in (((ONE, newer), "a.db"), ((newer, ONE), "b.db")):
        with Database(database(tmp_path / name, *order)) as opened:
            assert opened.info().advisories == 1
            assert list(opened.affecting("Debian:12", "openssl")) == []


def test_a_source_is_replaced_and_others_are_kept(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", ONE, source="first")
    database(path, TWO, source="second")
    database(path, osv("CVE-2026-0009"), source="first")
    with Database(path) as opened:
        assert [(item.name, item.advisories) for item in opened.info().sources] == [("first", 1), ("second", 1)]
        assert list(opened.affecting("Debian:12", "openssl")) == []
        assert len(list(opened.affecting("PyPI", "jinja2"))) == 1
        assert opened.check()


def test_the_version_depends_on_the_content_alone(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", ONE)
    with Database(path) as opened:
        before = opened.info().version
    database(path, TWO, source="other")
    with Database(path) as opened:
        assert opened.info().version != before


def test_a_changed_row_is_seen(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db", ONE)
    with sqlite3.connect(path) as connection:
        connection.execute("update affected set document = replace(document, '\"2\"', '\"1\"')")
    connection.close()
    with Database(path) as opened:
        assert not opened.check()


@pytest.mark.parametrize("table", ["affected", "advisory"])
@pytest.mark.parametrize("text", ["[1]", "{", '[["x"]]', "null"])
def test_a_garbled_row_is_refused_where_it_is_read(tmp_path: Path, table: str, text: str) -> None:
    path = database(tmp_path / "a.db", ONE)
    with sqlite3.connect(path) as connection:
        connection.execute(f"update {table} set document = ?", (text,))
    connection.close()
    with Database(path) as opened, pytest.raises(KilnError) as caught:
        for _, affected, packed in opened.affecting("Debian:12", "openssl"):
            assert affected
            opened.advisory(packed)
    assert caught.value.reason == "unusable-database"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database" * 100)
    with pytest.raises(KilnError) as caught:
        Database(tmp_path / "a.db")
    assert caught.value.reason == "unusable-database"
    with pytest.raises(KilnError):
        database(tmp_path / "a.db", ONE)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"id": None}, "$.id"),
        ({"id": "x\x00y"}, "$.id"),
        ({"modified": "yesterday"}, "$.modified"),
        ({"aliases": "CVE-1"}, "$.aliases"),
        ({"affected": {}}, "$.affected"),
        ({"affected": [{"package": {"name": "x"}}]}, "$.affected[0].package"),
        ({"affected": [affected("PyPI", "x", {"fixed": "1"})]}, "$.affected[0].ranges[0].events"),
        ({"affected": [affected("PyPI", "x", {"introduced": ""})]}, "$.affected[0].ranges[0].events[0]"),
        ({"severity": [{"type": "CVSS_V3"}]}, "$.severity[0]"),
        ({"withdrawn": "1"}, "$.withdrawn"),
    ],
)
def test_a_garbled_advisory_is_refused_with_its_place_and_the_old_database_stays(
    tmp_path: Path, change: dict[str, Any], path: str
) -> None:
    file = database(tmp_path / "a.db", ONE)
    before = file.read_bytes()
    folder = write(tmp_path / "advisories", TWO)
    (folder / "z.json").write_text(json.dumps({**TWO, **change}))
    with pytest.raises(KilnError) as caught:
        update(file, [AdvisorySource("new", folder=folder)], _no_network, NullSink())
    assert caught.value.reason == "bad-advisory"
    assert caught.value.place is not None
    assert caught.value.place.file.endswith("z.json") and caught.value.place.path == path
    assert file.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.db", "advisories"]


def _no_network() -> Any:
    raise AssertionError("a folder needs no network")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"a": 1}', b"\xff\xfe", b'{"id": "A-1", "id": "A-2", "modified": "x"}', b"[" * 200, b"null"],
)
def test_what_is_no_advisory_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(KilnError) as caught:
        list(read_advisories(tmp_path / "x.json"))
    assert caught.value.reason == "bad-advisory"


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_cut_or_flipped_file_is_refused_or_read_but_never_a_traceback(
    tmp_path_factory: Any, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flip")
    original = json.dumps(data.draw(st.sampled_from([ONE, TRACKER, NVD, GITHUB]))).encode()
    position = data.draw(st.integers(0, len(original) - 1))
    changed = original[:position] + data.draw(st.binary(max_size=2)) + original[position + 1 :]
    (folder / "x.json").write_bytes(changed)
    try:
        list(read_advisories(folder / "x.json"))
    except KilnError as error:
        assert error.reason == "bad-advisory"


def test_the_trackers_export_is_read_by_release(tmp_path: Path) -> None:
    (tmp_path / "tracker.json").write_text(json.dumps(TRACKER))
    first, temporary = read_advisories(tmp_path / "tracker.json")
    assert (first.id, first.aliases, first.summary) == ("DEBIAN-CVE-2026-0001-openssl", ("CVE-2026-0001",), "a hole")
    # trixie's `0` means: never affected
    assert [(item.ecosystem, item.urgency) for item in first.affected] == [("Debian:12", "high"), ("Debian:sid", "low")]
    assert [event.version for event in first.affected[0].ranges[0]] == ["0", "3.0.5-1"]
    assert temporary.aliases == ()


def test_nvd_brings_severity_and_cpe_names(tmp_path: Path) -> None:
    (tmp_path / "nvd.json").write_text(json.dumps(NVD))
    (found,) = read_advisories(tmp_path / "nvd.json")
    assert (found.id, found.severities[0].vector, found.summary) == ("CVE-2026-0001", HIGH, "from NVD")
    assert (found.affected[0].ecosystem, found.affected[0].package) == ("CPE", "openssl:openssl")


def test_githubs_api_is_read(tmp_path: Path) -> None:
    (tmp_path / "github.json").write_text(json.dumps(GITHUB))
    (found,) = read_advisories(tmp_path / "github.json")
    assert (found.id, found.aliases, found.rating) == ("GHSA-aaaa-bbbb-cccc", ("CVE-2026-0003",), "high")
    (item,) = found.affected
    assert (item.ecosystem, item.package) == ("PyPI", "flask")
    assert [(event.kind, event.version) for event in item.ranges[0]] == [("introduced", "1.0"), ("fixed", "2.3.2")]


def test_archives_packed_files_arrays_and_checkouts_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("CVE-2026-0002.json", json.dumps(TWO))
        archive.writestr("CVE-2026-0001.json", json.dumps(ONE))
    assert [item.id for item in read_advisories(tmp_path / "all.zip")] == ["CVE-2026-0001", "CVE-2026-0002"]
    (tmp_path / "packed.json.gz").write_bytes(gzip.compress(json.dumps(TRACKER).encode()))
    assert len(list(read_advisories(tmp_path / "packed.json.gz"))) == 2
    (tmp_path / "array.json").write_text(json.dumps([ONE, TWO]))
    assert len(list(read_advisories(tmp_path / "array.json"))) == 2
    checkout = write(tmp_path / "checkout", ONE)
    (checkout / ".git").mkdir()
    (checkout / ".git/HEAD").write_text("ref: refs/heads/main\n")
    (checkout / ".git/packed-refs").write_text("# pack-refs\n" + "a" * 40 + " refs/heads/main\n")
    (checkout / ".git/config.json").write_text("not an advisory")
    info = update(tmp_path / "a.db", [AdvisorySource("git", folder=checkout)], _no_network, NullSink())
    assert info.sources[0].revision == "a" * 40


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kiln.vulnerabilities.reading.MAX_UNPACKED_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", json.dumps(ONE) + " " * 20_000)
    (tmp_path / "bomb.json.gz").write_bytes(gzip.compress(b'{"x": {' + b" " * 50_000))
    for name in ("bomb.zip", "bomb.json.gz"):
        with pytest.raises(KilnError) as caught:
            list(read_advisories(tmp_path / name))
        assert caught.value.reason == "bad-advisory"


def test_a_mirror_is_read_by_its_logical_name_and_the_database_names_no_host(tmp_path: Path) -> None:
    import httpx

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/base/tracker/all.json.gz"
        return httpx.Response(200, stream=httpx.ByteStream(gzip.compress(json.dumps(TRACKER).encode())))

    sink = CollectingSink()

    def open_fetcher() -> Fetcher:
        mirrors = Mirrors({"tracker": ("http://mirror.invalid/base",)})
        return Fetcher(mirrors, sink, transport=httpx.MockTransport(answer))

    source = AdvisorySource("debian", mirror="tracker", path="tracker/all.json.gz")
    info = update(tmp_path / "a.db", [source], open_fetcher, sink)
    assert (info.sources[0].origin, info.advisories) == ("tracker: tracker/all.json.gz", 2)
    assert b"mirror.invalid" not in (tmp_path / "a.db").read_bytes()
    assert any(isinstance(event, Progress) and event.unit == "advisories" for event in sink.events)


def test_a_mirror_that_fails_leaves_the_old_database(tmp_path: Path) -> None:
    import httpx

    path = database(tmp_path / "a.db", ONE)
    before = path.read_bytes()
    transport = httpx.MockTransport(lambda request: httpx.Response(404))
    folder = write(tmp_path / "advisories", TWO)
    sources = [AdvisorySource("a", folder=folder), AdvisorySource("b", mirror="gone", path="x.zip")]
    with pytest.raises(KilnError) as caught:
        update(
            path,
            sources,
            lambda: Fetcher(Mirrors({"gone": ("http://x.invalid",)}), NullSink(), transport=transport),
            NullSink(),
        )
    assert caught.value.reason == "not-found"
    assert path.read_bytes() == before


@pytest.mark.parametrize("step", ["_version", "sync_directory"])
def test_killed_at_any_step_the_database_is_the_old_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = database(tmp_path / "a.db", ONE)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database_module, step, die)
        with pytest.raises(KeyboardInterrupt):
            replace_sources(path, [("other", "test", "", [])])
    with Database(path) as opened:
        assert opened.check()
    assert [item.name for item in tmp_path.iterdir()] == ["a.db"]
