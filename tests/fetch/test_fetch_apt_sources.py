"""apt's configuration as apt reads it, and the logical names of its archives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.errors import KilnError
from kiln.fetch.apt_sources import apt_mirrors, parse_apt_sources, read_apt_sources

DEB822 = """\
# A comment before everything
Types: deb deb-src
URIs: http://one.invalid/debian http://two.invalid/pub/debian/
Suites: bookworm
 bookworm-updates
# a comment inside
Components: main contrib
Signed-By: /usr/share/keyrings/a.gpg
Trusted: no

Types: deb
URIs: http://one.invalid/off
Suites: s
Components: main
Enabled: no

Types: deb
URIs: https://three.invalid/debian-security
Suites: bookworm-security
Components: main
Architectures: amd64 arm64
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc=
 -----END PGP PUBLIC KEY BLOCK-----
"""


def test_deb822_stanzas_with_several_values_comments_and_keys() -> None:
    first, second = parse_apt_sources(DEB822, "debian.sources")
    assert first.types == ("deb", "deb-src")
    assert first.uris == ("http://one.invalid/debian", "http://two.invalid/pub/debian/")
    assert first.suites == ("bookworm", "bookworm-updates")
    assert first.components == ("main", "contrib")
    assert first.signed_by == ("/usr/share/keyrings/a.gpg",)
    assert first.options == (("trusted", "no"),)
    assert first.line == 2
    assert second.architectures == ("amd64", "arm64")
    assert second.signed_by == ()
    assert second.signed_by_key.splitlines()[0] == "-----BEGIN PGP PUBLIC KEY BLOCK-----"
    assert second.signed_by_key.splitlines()[1] == ""


@pytest.mark.parametrize(
    "line",
    [
        "deb [arch=amd64,arm64 signed-by=/a.gpg,/b.gpg] http://one.invalid/debian bookworm main contrib",
        "deb\t[ arch=amd64,arm64   signed-by=/a.gpg,/b.gpg ]\thttp://one.invalid/debian\tbookworm  main contrib # why",
    ],
)
def test_a_line_with_options(line: str) -> None:
    (source,) = parse_apt_sources(f"# comment\n\n{line}\n", "a.list")
    assert source.uris == ("http://one.invalid/debian",)
    assert source.architectures == ("amd64", "arm64")
    assert source.signed_by == ("/a.gpg", "/b.gpg")
    assert (source.suites, source.components, source.line) == (("bookworm",), ("main", "contrib"), 3)


def test_added_and_removed_architectures_do_not_restrict() -> None:
    (source,) = parse_apt_sources("deb [arch-=i386 trusted=yes] http://a.invalid/x s main", "a.list")
    assert source.architectures == ()
    assert source.options == (("architectures-remove", "i386"), ("trusted", "yes"))


def test_a_cdrom_name_with_spaces_is_one_word() -> None:
    (source,) = parse_apt_sources("deb cdrom:[Debian 12 _x_]/ bookworm main", "sources.list")
    assert source.uris == ("cdrom:[Debian 12 _x_]/",)


def test_a_flat_archive_has_no_components() -> None:
    (source,) = parse_apt_sources("deb http://a.invalid/x ./", "a.list")
    assert source.components == ()


@pytest.mark.parametrize(
    ("text", "file", "line"),
    [
        ("deb http://a.invalid/x", "a.list", 1),
        ("\nrpm http://a.invalid/x s main", "a.list", 2),
        ("deb [arch=amd64 http://a.invalid/x s main", "a.list", 1),
        ("deb [arch] http://a.invalid/x s main", "a.list", 1),
        ("deb http://a.invalid/x s", "a.list", 1),
        ("deb", "a.list", 1),
        ("Types: deb\nSuites: s\nComponents: main\n", "a.sources", 1),
        ("Types: deb\nTypes: deb\n", "a.sources", 2),
        (" continued\n", "a.sources", 1),
        ("Types: deb\nno field\n", "a.sources", 2),
        ("\nTypes: rpm\nURIs: http://a.invalid/x\nSuites: s\nComponents: c\n", "a.sources", 2),
    ],
)
def test_what_apt_refuses_is_refused_with_its_line(text: str, file: str, line: int) -> None:
    with pytest.raises(KilnError) as caught:
        parse_apt_sources(text, file)
    assert caught.value.reason == "bad-apt-sources"
    assert caught.value.place is not None
    assert (caught.value.place.file, caught.value.place.line) == (file, line)


@given(st.text(max_size=200), st.sampled_from(["x.list", "x.sources"]))
def test_any_text_is_read_or_refused_never_a_crash(text: str, file: str) -> None:
    try:
        parse_apt_sources(text, file)
    except KilnError as error:
        assert error.reason == "bad-apt-sources"


WORDS = st.from_regex(r"[a-z0-9][a-z0-9.+-]{0,8}", fullmatch=True)


@given(WORDS, st.lists(WORDS, min_size=1, max_size=3, unique=True), st.lists(WORDS, max_size=2, unique=True))
def test_both_formats_say_the_same(name: str, components: list[str], architectures: list[str]) -> None:
    uri = f"http://a.invalid/{name}"
    options = f"[arch={','.join(architectures)}] " if architectures else ""
    (one,) = parse_apt_sources(f"deb {options}{uri} suite {' '.join(components)}\n", "a.list")
    arches = f"Architectures: {' '.join(architectures)}\n" if architectures else ""
    text = f"Types: deb\nURIs: {uri}\nSuites: suite\nComponents: {' '.join(components)}\n{arches}"
    (other,) = parse_apt_sources(text, "a.sources")
    assert (one.uris, one.suites, one.components) == (other.uris, other.suites, other.components)
    assert one.architectures == other.architectures


def test_mirrors_are_named_by_the_last_part_of_their_path(tmp_path: Path) -> None:
    directory = tmp_path / "etc/apt/sources.list.d"
    directory.mkdir(parents=True)
    (directory / "debian.sources").write_text(DEB822)
    (directory / "b.list").write_text(
        "deb http://one.invalid/debian sid main\ndeb http://one.invalid/ubuntu/ jammy main\n"
        "deb-src http://one.invalid/only-source s main\ndeb file:/srv/local s main\ndeb http://bare.invalid/ s main\n"
    )
    (directory / "b.list.disabled").write_text("deb http://one.invalid/disabled s main\n")
    (tmp_path / "etc/apt/sources.list").write_text("deb http://zero.invalid/debian bookworm main\n")
    assert apt_mirrors(tmp_path) == {
        "debian": ("http://zero.invalid/debian", "http://one.invalid/debian", "http://two.invalid/pub/debian"),
        "ubuntu": ("http://one.invalid/ubuntu",),
        "debian-security": ("https://three.invalid/debian-security",),
    }
    assert len(read_apt_sources(tmp_path)) == 8


def test_a_host_without_apt_has_no_mirrors(tmp_path: Path) -> None:
    assert apt_mirrors(tmp_path) == {}
