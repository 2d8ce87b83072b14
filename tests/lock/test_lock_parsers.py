"""The parsers of the archive's formats: relations, stanzas, compressed files, Packages."""

from __future__ import annotations

import contextlib
import gzip
import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lock_archive import deb, packages_text

from kiln.authoring.lock.compression import decompress
from kiln.authoring.lock.deb822 import StanzaError, parse_stanza
from kiln.authoring.lock.packages import PackagesFile, Universe
from kiln.authoring.lock.relations import Alternative, RelationError, parse_relations
from kiln.errors import KilnError

NAMES = st.from_regex(r"[a-z0-9][a-z0-9+.-]{1,12}", fullmatch=True)
ALTERNATIVES = st.builds(
    Alternative,
    NAMES,
    st.sampled_from(["", "any", "native", "amd64"]),
    st.just(""),
    st.just(""),
) | st.builds(
    Alternative,
    NAMES,
    st.sampled_from(["", "any"]),
    st.sampled_from(["<<", "<=", "=", ">=", ">>"]),
    st.from_regex(r"[0-9][0-9a-z.+~-]{0,8}", fullmatch=True),
)
SPACES = st.sampled_from(["", " ", "  "])


def spell(alternative: Alternative, space: str) -> str:
    text = alternative.name + (f":{alternative.architecture}" if alternative.architecture else "")
    return f"{text}{space}({alternative.relation}{space}{alternative.version})" if alternative.relation else text


@given(st.lists(st.lists(ALTERNATIVES, min_size=1, max_size=3), max_size=4), SPACES)
def test_relations_are_read_back_whatever_the_spacing(clauses: list[list[Alternative]], space: str) -> None:
    text = f"{space},{space}".join(f"{space}|{space}".join(spell(one, space) for one in clause) for clause in clauses)
    assert parse_relations(text) == tuple(map(tuple, clauses))


@given(st.text(max_size=40))
def test_relations_are_read_or_refused_never_a_crash(text: str) -> None:
    with contextlib.suppress(RelationError):
        parse_relations(text)


def test_obsolete_relations_mean_or_equal() -> None:
    assert parse_relations("a (< 1), b (> 2) [amd64] <!nocheck>") == (
        (Alternative("a", "", "<=", "1"),),
        (Alternative("b", "", ">=", "2"),),
    )


FIELD_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True).map(str.lower)
VALUES = st.lists(st.from_regex(r"[!-~][ -~]{0,9}", fullmatch=True).map(str.strip), min_size=1, max_size=3)


@given(st.dictionaries(FIELD_NAMES, VALUES, min_size=1, max_size=5))
def test_stanzas_are_read_back(fields: dict[str, list[str]]) -> None:
    text = "".join(f"{name.title()}: {value[0]}\n" + "".join(f" {more}\n" for more in value[1:])
                   for name, value in fields.items())  # fmt: skip
    assert parse_stanza(text) == {name: "\n".join(value) for name, value in fields.items()}


@pytest.mark.parametrize("text", [" x\n", "A: 1\n\nB: 2\n", "A: 1\na: 2\n", "no field\n", ": x\n"])
def test_a_stanza_that_two_readers_could_read_differently_is_refused(text: str) -> None:
    with pytest.raises(StanzaError):
        parse_stanza(text)


@given(st.binary(max_size=5000), st.sampled_from([".xz", ".gz", ""]))
def test_decompression_gives_the_content(data: bytes, suffix: str) -> None:
    packed = {".xz": lzma.compress, ".gz": gzip.compress, "": bytes}[suffix](data)
    assert decompress(packed, suffix, len(data)) == data
    if data:
        with pytest.raises(ValueError, match="longer"):
            decompress(packed, suffix, len(data) - 1)
    if suffix:
        with pytest.raises(ValueError, match=r"truncated|damaged"):
            decompress(packed[:-1], suffix, len(data))
        with pytest.raises(ValueError, match=r"truncated|damaged"):
            decompress(packed + b"more", suffix, len(data))


@pytest.mark.parametrize(("suffix", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_a_decompression_bomb_stops_at_the_limit(suffix: str, compress: object) -> None:
    bomb = compress(bytes(64 * 1024 * 1024))  # type: ignore[operator]
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        decompress(bomb, suffix, 1000)


@pytest.mark.parametrize(("suffix", "compress"), [(".xz", lzma.compress), (".gz", gzip.compress)])
def test_content_longer_than_one_piece_is_whole(suffix: str, compress: object) -> None:
    data = bytes(range(256)) * 40_000
    assert decompress(compress(data), suffix, len(data)) == data  # type: ignore[operator]


def read(text: bytes) -> PackagesFile:
    return PackagesFile(text, mirror="test", suite="s", path="main/binary-amd64/Packages")


def test_records_hold_what_a_lock_needs() -> None:
    file = read(packages_text([deb("a", "1:2-3", Source="b (2-3)", Essential="yes", Depends="c | d", Pre_Depends="e")]))
    (record,) = file.records("a")
    assert (record.source, record.source_version, record.essential) == ("b", "2-3", True)
    assert record.installed_size_bytes == 12 * 1024
    assert [one.name for clause in record.depends for one in clause] == ["e", "c", "d"]
    assert file.essential == {"a"}
    assert Universe([file]).find("a", "1:2-3", "amd64") == record
    assert Universe([file]).find("a", "1:2-3", "arm64") is None


@given(st.lists(NAMES, unique=True, min_size=1, max_size=8), st.sampled_from(["\n", "\n\n", "\n\n\n"]))
def test_every_stanza_is_found_whatever_the_empty_lines(names: list[str], gap: str) -> None:
    text = gap.join(packages_text([deb(name)]).decode() for name in names)
    file = read(text.encode())
    assert sorted(record.name for record in file) == sorted(names)
    assert len(file) == len(names)


def test_a_stanza_may_begin_with_another_field() -> None:
    stanza = deb("a")
    reordered = {"Version": stanza.pop("Version"), **stanza}
    assert [record.name for record in read(packages_text([reordered]))] == ["a"]


def test_the_first_index_wins_for_the_same_package() -> None:
    one = PackagesFile(packages_text([deb("a")]), mirror="test", suite="one", path="p")
    two = PackagesFile(packages_text([deb("a")]), mirror="test", suite="two", path="p")
    found = Universe([one, two]).find("a", "1.0", "amd64")
    assert found is not None
    assert found.suite == "one"


@pytest.mark.parametrize(
    "change",
    [
        {"Filename": "../../etc/passwd"},
        {"Filename": "/etc/passwd"},
        {"Filename": "pool//a.deb"},
        {"SHA256": "12"},
        {"Size": "-1"},
        {"Version": "1 --force"},
        {"Architecture": "../x"},
        {"Depends": "a (>= "},
        {"Source": "a b c"},
    ],
)
def test_a_malformed_stanza_is_refused_with_its_package(change: dict[str, str]) -> None:
    with pytest.raises(KilnError) as caught:
        read(packages_text([deb("a") | change])).records("a")
    assert caught.value.reason == "malformed-index"
    assert caught.value.place is not None
    assert caught.value.place.path == "a"


def test_a_missing_field_is_refused() -> None:
    stanza = deb("a")
    del stanza["SHA256"]
    with pytest.raises(KilnError, match="no field sha256"):
        read(packages_text([stanza])).records("a")


def test_virtual_packages_are_found() -> None:
    universe = Universe([read(packages_text([deb("a", Provides="mta, x (= 1)"), deb("b", Provides="mta")]))])
    assert universe.providers("mta") == ("a", "b")
    assert universe.providers("nothing") == ()
    assert not universe.has("mta")


def test_the_nearest_names_are_suggested() -> None:
    universe = Universe([read(packages_text([deb("nginx"), deb("docker.io"), deb("openssh-server")]))])
    assert universe.suggestions("ngnix") == ("nginx",)
    assert universe.suggestions("openssh-sever") == ("openssh-server",)
    assert universe.suggestions("zzzzzz") == ()


def test_a_suite_of_64000_stanzas_is_indexed() -> None:
    text = packages_text([deb("package")]).replace(b"further", b"further" * 80)
    data = b"".join(text.replace(b"package", b"package-%d" % number, 1) for number in range(64_000))
    file = read(data)
    assert len(file) == 64_000
    assert file.essential == frozenset()
