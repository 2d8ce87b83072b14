"""Many packages into one tree: what dpkg would have made of them, one after another."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from osbuild.util.deb import database
from osbuild.util.deb.archive import Package
from osbuild.util.deb.unpack import UnpackError, make_merged_usr, unpack_all

Deb = Callable[..., Path]
TIME = 1_699_999_000
pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _programs(needs: Any) -> None:
    needs("dpkg-deb")


def unpack(tree: Path, *paths: Path, jobs: int = 2) -> dict[str, list[str]]:
    packages = [Package(str(path)) for path in paths]
    make_merged_usr(str(tree), "amd64")
    contents = unpack_all(packages, str(tree), jobs, lambda _: None)
    return {package.name: contents[package] for package in packages}


def raw(deb: Deb, name: str, *members: tuple[tarfile.TarInfo, bytes], **control: str) -> Path:
    """Return a package whose data.tar holds exactly these members."""
    path = deb(name, {}, control=control, options=("-Znone",))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    content, length = path.read_bytes(), len(data.getvalue())
    offset, _ = Package(str(path)).members["data.tar"]
    header = content[:offset][:-12] + f"{length:<10}`\n".encode()
    path.write_bytes(header + data.getvalue())
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, link, mode, TIME
    return info


def test_files_get_their_modes_owners_times_and_kinds(tree: Path, deb: Deb) -> None:
    device = member("./dev/x", tarfile.CHRTYPE, mode=0o660)
    device.devmajor, device.devminor = 1, 3
    owned = member("./usr/bin/suid", mode=0o4755)
    owned.uid, owned.gid = 4001, 4002
    link = member("./usr/bin/l", tarfile.SYMTYPE, "suid")
    link.uid = 4003
    fifo = member("./run/f", tarfile.FIFOTYPE, mode=0o600)
    hard = member("./usr/bin/hard", tarfile.LNKTYPE, "./usr/bin/suid")
    path = raw(deb, "kinds", (owned, b"x" * 3_000_000), (link, b""), (device, b""), (fifo, b""), (hard, b""))
    contents = unpack(tree, path)
    status = (tree / "usr/bin/suid").stat()
    assert (status.st_size, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (
        3_000_000,
        0o4755,
        4001,
        4002,
    )
    assert (tree / "usr/bin/hard").stat().st_ino == status.st_ino
    assert (tree / "usr/bin/l").lstat().st_uid == 4003
    assert (tree / "dev/x").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((tree / "run/f").stat().st_mode)
    for name in ("usr/bin/suid", "usr/bin/l", "dev/x", "run/f"):
        assert (tree / name).lstat().st_mtime == TIME
    assert contents["kinds"] == ["/usr/bin/suid", "/usr/bin/l", "/dev/x", "/run/f", "/usr/bin/hard"]


def test_old_paths_go_to_usr_and_are_listed_as_in_the_archive(tree: Path, deb: Deb) -> None:
    files = {"/bin/a": "a", "/lib/b": "b", "/lib64/c": "c", "/sbin": None, "/library": "d"}
    contents = unpack(tree, deb("old", files))
    assert [(tree / "usr" / name).read_text() for name in ("bin/a", "lib/b", "lib64/c")] == ["a", "b", "c"]
    assert (tree / "bin").readlink() == Path("usr/bin")
    assert (tree / "library").read_text() == "d"
    assert {"/.", "/bin", "/bin/a", "/lib64/c", "/sbin"} <= set(contents["old"])


def test_base_files_may_bring_the_links_of_merged_usr_itself(tree: Path, deb: Deb) -> None:
    base = deb("base-files", {"/bin": ("link", "usr/bin"), "/usr/bin": None, "/var/run": ("link", "/run")})
    unpack(tree, deb("old", {"/bin/a": "a"}), base)
    assert (tree / "bin").readlink() == Path("usr/bin")
    assert (tree / "var/run").readlink() == Path("/run")


def test_directories_have_the_time_of_the_newest_package_and_not_of_the_build(tree: Path, deb: Deb) -> None:
    packages = []
    for number in range(6):
        folder = member("./usr/share/doc", tarfile.DIRTYPE, mode=0o755)
        folder.mtime = TIME + number
        file = member(f"./usr/share/doc/f{number}")
        packages.append(raw(deb, f"p{number}", (folder, b""), (file, b"x" * (1000 * number))))
    unpack(tree, *packages)
    assert (tree / "usr/share/doc").stat().st_mtime == TIME + 5


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_a_special_mode_of_a_directory_wins_whoever_comes_first(tree: Path, deb: Deb, jobs: int) -> None:
    special = member("./var/mail", tarfile.DIRTYPE, mode=0o2775)
    special.gid = 8
    usual = member("./var/mail", tarfile.DIRTYPE, mode=0o755)
    other = member("./var/mail", tarfile.DIRTYPE, mode=0o700)
    packages = [raw(deb, "zz", (other, b"")), raw(deb, "a", (usual, b"")), raw(deb, "m", (special, b""))]
    unpack(tree, *packages, jobs=jobs)
    status = (tree / "var/mail").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o2775, 8)


def test_configuration_files_wait_for_dpkg(tree: Path, deb: Deb) -> None:
    files = {"/etc/a.conf": "a", "/etc/b.conf": ("hard", "/etc/a.conf"), "/etc/plain": "p"}
    contents = unpack(tree, deb("conf", files, scripts={"conffiles": "/etc/a.conf\n/etc/b.conf\n"}))
    assert sorted(path.name for path in (tree / "etc").iterdir()) == ["a.conf.dpkg-new", "b.conf.dpkg-new", "plain"]
    assert (tree / "etc/a.conf.dpkg-new").stat().st_nlink == 2
    assert "/etc/a.conf" in contents["conf"]


def test_a_long_name_and_one_that_is_not_utf_8(tree: Path, deb: Deb) -> None:
    long = "/usr/" + "/".join(["n" * 100] * 5)
    odd = member("./usr/share/J\udcf6rg")
    packages = [deb("long", {long: "x"}), raw(deb, "odd", (odd, b"y"))]
    contents = unpack(tree, *packages)
    assert (tree / long.lstrip("/")).read_text() == "x"
    assert (tree / "usr/share/J\udcf6rg").read_bytes() == b"y"
    loaded = [Package(str(path)) for path in packages]
    database.write(loaded, {package: contents[package.name] for package in loaded}, str(tree))
    assert b"J\xf6rg\n" in (tree / "var/lib/dpkg/info/odd.list").read_bytes()


def test_a_package_that_replaces_another_gets_the_path(tree: Path, deb: Deb) -> None:
    old = deb("old", {"/usr/bin/x": "old", "/usr/bin/y": "y"})
    new = deb("new", {"/usr/bin/x": "new", "/usr/bin/z": ("hard", "/usr/bin/x")}, control={"Replaces": "b, old (<< 2)"})
    contents = unpack(tree, old, new)
    assert (tree / "usr/bin/x").read_text() == "new"
    assert (tree / "usr/bin/z").read_text() == "new"
    assert (tree / "usr/bin/x").stat().st_ino == (tree / "usr/bin/z").stat().st_ino
    assert "/usr/bin/x" in contents["new"]
    assert "/usr/bin/x" not in contents["old"]
    assert (tree / "usr/bin/y").read_text() == "y"


def test_a_path_behind_an_old_name_is_the_same_path(tree: Path, deb: Deb) -> None:
    old, new = deb("old", {"/bin/x": "old"}), deb("new", {"/usr/bin/x": "new"}, control={"Replaces": "old"})
    assert unpack(tree, old, new)["old"] == ["/.", "/bin"]
    assert (tree / "usr/bin/x").read_text() == "new"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_path_of_two_packages_without_replaces_is_refused(tree: Path, deb: Deb, jobs: int) -> None:
    with pytest.raises(UnpackError, match=r"/usr/bin/x is in several packages.*: a, b"):
        unpack(tree, deb("a", {"/usr/bin/x": "a"}), deb("b", {"/usr/bin/x": "b"}), jobs=jobs)


def test_a_conffile_that_was_taken_over_is_no_longer_the_first_ones(tree: Path, deb: Deb) -> None:
    conffiles = {"conffiles": "/etc/x\n"}
    old = deb("old", {"/etc/x": "old"}, scripts=conffiles)
    new = deb("new", {"/etc/x": "new"}, scripts=conffiles, control={"Replaces": "old"})
    packages = [Package(str(old)), Package(str(new))]
    contents = unpack_all(packages, str(tree), 1, lambda _: None)
    database.write(packages, contents, str(tree))
    assert (tree / "etc/x.dpkg-new").read_text() == "new"
    status = (tree / "var/lib/dpkg/status").read_text()
    assert status.count("newconffile") == 1
    assert status.index("Package: new") < status.index("newconffile") < status.index("Package: old")


def test_a_path_that_is_twice_in_one_package_is_the_last_one(tree: Path, deb: Deb) -> None:
    path = raw(deb, "twice", (member("./x"), b"first"), (member("./x"), b"second"))
    unpack(tree, path)
    assert (tree / "x").read_bytes() == b"second"


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_directory_in_one_and_a_file_in_another_is_refused(tree: Path, deb: Deb, jobs: int) -> None:
    packages = [deb("a", {"/usr/x/y": "a"}), deb("b", {"/usr/x": "b"})]
    for order in (packages, packages[::-1]):
        with pytest.raises(UnpackError, match="is a directory in one package and a file in another"):
            unpack(tree, *order, jobs=jobs)


@pytest.mark.parametrize(
    "name", ["../victim", "./usr/../../victim", "..", "./a/../../../victim", "/../victim", "//../../victim"]
)
def test_a_path_that_climbs_out_is_refused(tree: Path, deb: Deb, name: str) -> None:
    with pytest.raises(UnpackError, match="leaves the tree"):
        unpack(tree, raw(deb, "evil", (member(name), b"evil")))
    assert not (tree.parent / "victim").exists()


def test_an_absolute_path_is_below_the_tree(tree: Path, deb: Deb) -> None:
    unpack(tree, raw(deb, "absolute", (member("/etc/x"), b"x")))
    assert (tree / "etc/x").read_bytes() == b"x"


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_a_link_is_no_way_out(tree: Path, deb: Deb, tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "outside").mkdir()
    link = member("./etc/way", tarfile.SYMTYPE, str(tmp_path / "outside"))
    for target in (link, member("./etc/way", tarfile.SYMTYPE, "../../outside")):
        with pytest.raises(UnpackError, match="leaves the tree through a link"):
            unpack(tree, raw(deb, "evil", (target, b""), (member("./etc/way/file", kind, "x"), b"")))
        (tree / "etc/way").unlink()
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_hard_link_is_no_way_out(tree: Path, deb: Deb, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret", encoding="ascii")
    for target in ("../secret", str(tmp_path / "secret"), "./missing"):
        with pytest.raises(UnpackError, match=r"leaves the tree|leads nowhere"):
            unpack(tree, raw(deb, "evil", (member("./x", tarfile.LNKTYPE, target), b"")))
    assert not (tree / "x").exists()


def test_a_damaged_package_among_others_is_named(tree: Path, deb: Deb) -> None:
    good, bad = deb("good", {"/a": "a"}), deb("bad", {"/b": os.urandom(5000).hex()})
    content = bytearray(bad.read_bytes())
    content[-200] ^= 0xFF
    bad.write_bytes(content)
    with pytest.raises(Exception, match=r"bad\.deb: data\.tar\.gz"):
        unpack(tree, good, bad)


def test_every_package_is_reported_once(tree: Path, deb: Deb) -> None:
    packages = [Package(str(deb(f"p{number}", {f"/f{number}": "x" * number}))) for number in range(12)]
    seen: list[str] = []
    contents = unpack_all(packages, str(tree), 3, lambda package: seen.append(package.name))
    assert sorted(seen) == sorted(package.name for package in packages)
    assert list(contents) == packages, "in the order in which they were given"


def test_the_same_packages_give_the_same_tree(deb: Deb, tmp_path: Path) -> None:
    paths = [deb(f"p{n}", {f"/usr/share/d{n % 3}/f{n}": "x" * 5000 * n, "/usr/share/d0": None}) for n in range(9)]

    def listing(jobs: int) -> list[Any]:
        tree = tmp_path / f"tree{jobs}"
        tree.mkdir()
        unpack_all([Package(str(path)) for path in paths], str(tree), jobs, lambda _: None)
        found = sorted(tree.rglob("*"))
        return [(str(path.relative_to(tree)), path.stat().st_mode, path.stat().st_mtime) for path in found]

    first = listing(1)
    assert any(time != TIME for _, _, time in first) is False
    assert [listing(jobs) for jobs in (2, 4)] == [first, first]


def test_the_database_is_what_dpkg_reads(tree: Path, deb: Deb, run_tool: Callable[..., bytes], needs: Any) -> None:
    needs("dpkg-query")
    first = deb(
        "first",
        {"/etc/a.conf": "a", "/usr/bin/x": "x"},
        control={"Architecture": "amd64", "Multi-Arch": "same", "Description": "short\n long text\n .\n more"},
        scripts={
            "conffiles": "/etc/a.conf\n",
            "postinst": "#!/bin/sh\n",
            "triggers": "# why\ninterest /usr/share/x\ninterest-noawait named\nactivate other\n",
        },
    )
    second = deb("second", {"/usr/bin/y": "y"}, scripts={"triggers": "interest-await named # too\n"})
    packages = [Package(str(second)), Package(str(first))]
    contents = unpack_all(packages, str(tree), 1, lambda _: None)
    database.write(packages, contents, str(tree))
    root = tree / "var/lib/dpkg"
    query = ["dpkg-query", f"--admindir={root}"]
    form = "${Package} ${Architecture} ${Status} ${Conffiles}\n"
    assert run_tool(*query, "-W", "-f", form).decode().splitlines() == [
        "first amd64 install ok unpacked  /etc/a.conf newconffile",
        "second all install ok unpacked ",
    ]
    assert run_tool(*query, "-W", "-f", "${Description}", "first").decode() == "short\n long text\n .\n more"
    assert run_tool(*query, "-L", "first").decode().split() == [
        "/.",
        "/etc",
        "/etc/a.conf",
        "/usr",
        "/usr/bin",
        "/usr/bin/x",
    ]
    assert run_tool(*query, "-S", "/usr/bin/y") == b"second: /usr/bin/y\n"
    assert sorted(path.name for path in (root / "info").iterdir()) == [
        "first:amd64.conffiles",
        "first:amd64.list",
        "first:amd64.md5sums",
        "first:amd64.postinst",
        "first:amd64.triggers",
        "format",
        "second.list",
        "second.md5sums",
        "second.triggers",
    ]
    assert (root / "info/first:amd64.md5sums").read_text() == "9dd4e461268c8034f5c8564e155c67a6  usr/bin/x\n"
    assert stat.S_IMODE((root / "info/first:amd64.postinst").stat().st_mode) == 0o755
    assert (root / "triggers/File").read_text() == "/usr/share/x first:amd64\n"
    assert (root / "triggers/named").read_text() == "first:amd64/noawait\nsecond\n"
    assert not (root / "triggers/other").exists()
