"""Reading .deb files: what dpkg-deb makes, and what nobody should have made."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from osbuild.util.deb.archive import DebError, Package, parse_stanza

Deb = Callable[..., Path]
CONTROL = b"Package: a\nVersion: 1\nArchitecture: all\n"


def tar(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of plain files."""
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return result.getvalue()


def ar(*members: tuple[str, bytes]) -> bytes:
    """Return an ar(5) archive."""
    result = b"!<arch>\n"
    for name, data in members:
        result += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
        )
    return result


def plain(control: bytes = CONTROL, data: bytes | None = None) -> list[tuple[str, bytes]]:
    files = tar({"./usr": b"", "./usr2/x": b"content"}) if data is None else data
    return [("debian-binary", b"2.0\n"), ("control.tar", tar({"./control": control})), ("data.tar", files)]


def opened(tmp_path: Path, content: bytes) -> Package:
    path = tmp_path / "x.deb"
    path.write_bytes(content)
    return Package(str(path))


def names(package: Package) -> list[str]:
    with package.data() as archive:
        return [member.name for member in archive]


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd", "none"])
def test_every_compression_is_read(deb: Deb, needs: Any, compression: str) -> None:
    needs("dpkg-deb", "zstd")
    long = "usr/share/" + "long-name/" * 30 + "file"
    files = {"/etc/a.conf": "a", f"/{long}": "far away", "/usr/bin/x": "x" * 100_000}
    path = deb(
        "sample",
        files,
        control={"Multi-Arch": "foreign", "Description": "short\n long\n .\n end"},
        scripts={"conffiles": "/etc/a.conf\n", "postinst": "#!/bin/sh\n", "triggers": "interest /x\n"},
        options=(f"-Z{compression}",),
    )
    package = Package(str(path))
    assert (package.name, package.info_name) == ("sample", "sample")
    assert package.stanza["Description"] == "short\n long\n .\n end"
    assert package.conffiles == ["/etc/a.conf"]
    assert package.control_files["postinst"] == (b"#!/bin/sh\n", 0o755)
    assert package.data_bytes > 0
    with package.data() as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive if member.isreg()}  # type: ignore[union-attr]
    assert {name.removeprefix("."): data.decode() for name, data in content.items()} == files


def test_a_shared_package_is_named_with_its_architecture(tmp_path: Path) -> None:
    control = b"Package: lib\nVersion: 1\nArchitecture: amd64\nMulti-Arch: same\n"
    assert opened(tmp_path, ar(*plain(control))).info_name == "lib:amd64"


def test_a_removed_conffile_is_none(tmp_path: Path) -> None:
    control = tar({"./control": CONTROL, "./conffiles": b"/etc/a\nremove-on-upgrade /etc/b\n\n /etc/c \n"})
    package = opened(tmp_path, ar(("control.tar", control), ("data.tar", tar({}))))
    assert package.conffiles == ["/etc/a", "/etc/c"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a Debian package"),
        (b"PK\x03\x04", "not a Debian package"),
        (b"!<arch>\n" + b"x" * 60, "damaged archive header"),
        (ar(*plain())[:-3000], "cut off"),
        (ar(*plain())[:-10], "cut off"),
        (ar(*plain()[:2]), "no members named data.tar"),
        (ar(*plain()[::2]), "no members named control.tar"),
        (ar(*plain(), ("data.tar.gz", b"")), "2 members named data.tar"),
        (ar(plain()[0], ("control.tar.br", b"x"), ("data.tar", b"")), "unknown compression"),
        (ar(plain()[0], ("control.tar.gz", b"x" * 100), ("data.tar", b"")), "control.tar.gz"),
        (ar(plain()[0], ("control.tar.xz", b"x" * 100), ("data.tar", b"")), "control.tar.xz"),
        (ar(plain()[0], ("control.tar", tar({"./md5sums": b""})), ("data.tar", b"")), "no control file"),
        (ar(*plain(b"Package: a\nVersion: 1\n")), "no field Architecture"),
        (ar(*plain(b"Package: ../../etc\nVersion: 1\nArchitecture: all\n")), "cannot be a name"),
        (ar(*plain(b"Package: a b\nVersion: 1\nArchitecture: all\n")), "cannot be a name"),
        (ar(*plain(b"Package: a\nVersion: 1\nArchitecture: x;id\n")), "cannot be a name"),
        (ar(*plain()).replace(b"10240     `", b"-60       `"), "cut off or damaged"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_a_whole_package_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DebError, match=words):
        opened(tmp_path, content)


@pytest.mark.parametrize("compression", ["gzip", "xz", "zstd"])
def test_damage_anywhere_in_the_files_is_found(deb: Deb, needs: Any, tmp_path: Path, compression: str) -> None:
    needs("dpkg-deb", "zstd")
    path = deb("sample", {"/a": "".join(map(str, range(20_000)))}, options=(f"-Z{compression}",))
    package = Package(str(path))
    data = path.read_bytes()
    name = next(name for name in package.members if name.startswith("data.tar"))
    offset, size = package.members[name]
    # The last bytes are the checksum: it must be read although the archive in it has ended before.
    places = [offset + size // 2, offset + size - (30 if compression == "xz" else 6)]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        with pytest.raises(DebError):
            names(opened(tmp_path, bytes(damaged)))
    cut = bytearray(data[: offset + size - 20])
    cut[offset - 12 : offset - 2] = f"{size - 20:<10}".encode()
    with pytest.raises(DebError):
        names(opened(tmp_path, bytes(cut)))


def test_an_error_of_the_reader_is_not_called_damage(tmp_path: Path) -> None:
    package = opened(tmp_path, ar(*plain()))
    with pytest.raises(OSError, match="disk"), package.data():
        raise OSError("disk")


def test_text_that_is_not_utf_8_is_kept(tmp_path: Path) -> None:
    package = opened(tmp_path, ar(*plain(CONTROL + b"Maintainer: J\xf6rg\n")))
    assert package.stanza["Maintainer"].encode("utf-8", "surrogateescape") == b"J\xf6rg"


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_bytes_are_read_or_refused_never_a_crash(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(ar(*plain()))
    for _ in range(data.draw(st.integers(1, 5))):
        # Headers and the beginnings of archives are where a change matters.
        place = data.draw(st.one_of(st.integers(0, 700), st.integers(0, len(content) - 1)))
        content[place] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    with contextlib.suppress(DebError):
        names(opened(tmp_path, bytes(content)))


@given(st.text(max_size=200))
def test_any_text_is_a_stanza(text: str) -> None:
    assert all(isinstance(value, str) for value in parse_stanza(text).values())


FIELD = st.from_regex(r"[A-Z][A-Za-z-]{0,10}", fullmatch=True)
VALUE = st.from_regex(r"[!-~]([ -~]{0,20}[!-~])?(\n [!-~]{1,10}){0,3}", fullmatch=True)


@given(st.dictionaries(FIELD, VALUE, max_size=5))
def test_what_is_written_is_read_back(fields: dict[str, str]) -> None:
    assert parse_stanza("".join(f"{name}: {value}\n" for name, value in fields.items())) == fields
