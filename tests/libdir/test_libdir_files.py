"""Stages that write small files: what is in the tree afterwards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

Stage = Any


def test_noop_leaves_the_tree_as_it_is(stage: Stage, tree: Path) -> None:
    assert stage.ok("org.osbuild.noop", {"any": "thing"}) == ""
    assert list(tree.iterdir()) == []


def test_hostname_writes_hosts_only_where_there_is_none(stage: Stage, tree: Path) -> None:
    (tree / "etc").mkdir()
    stage.ok("org.osbuild.hostname", {"hostname": "one"})
    assert stage.read("etc/hostname") == "one\n"
    assert "127.0.1.1 one\n" in stage.read("etc/hosts")
    stage.ok("org.osbuild.hostname", {"hostname": "two"})
    assert stage.read("etc/hostname") == "two\n"
    assert "127.0.1.1 one\n" in stage.read("etc/hosts")


def test_locale_is_written_for_systemd_and_for_pam(stage: Stage, tree: Path) -> None:
    stage.ok("org.osbuild.locale", {"language": "C.UTF-8"})
    assert stage.read("etc/locale.conf") == stage.read("etc/default/locale") == "LANG=C.UTF-8\n"
    (tree / "etc/default/locale").unlink()
    (tree / "etc/default/locale").symlink_to("../locale.conf")
    stage.ok("org.osbuild.locale", {"language": "de_DE.UTF-8"})
    assert stage.read("etc/default/locale") == "LANG=de_DE.UTF-8\n"


def test_timezone_is_a_link_to_a_zone_that_exists(stage: Stage, tree: Path) -> None:
    (tree / "usr/share/zoneinfo/Europe").mkdir(parents=True)
    (tree / "usr/share/zoneinfo/Europe/Berlin").write_text("TZif", encoding="ascii")
    (tree / "etc").mkdir()
    (tree / "etc/localtime").symlink_to("/usr/share/zoneinfo/Etc/UTC")
    stage.ok("org.osbuild.timezone", {"zone": "Europe/Berlin"})
    assert (tree / "etc/localtime").readlink() == Path("../usr/share/zoneinfo/Europe/Berlin")
    assert stage.read("etc/timezone") == "Europe/Berlin\n"
    for zone in ("Europe/Nowhere", "Europe"):
        assert "tzdata" in stage.refused("org.osbuild.timezone", {"zone": zone})
    assert stage.read("etc/localtime") == "TZif"


def test_machine_id_is_emptied_marked_or_kept(stage: Stage, tree: Path) -> None:
    (tree / "etc").mkdir()
    assert "no /etc/machine-id" in stage.refused("org.osbuild.machine-id", {"first-boot": "preserve"})
    (tree / "etc/machine-id").write_text("f" * 32, encoding="ascii")
    stage.ok("org.osbuild.machine-id", {"first-boot": "preserve"})
    assert stage.read("etc/machine-id") == "f" * 32
    stage.ok("org.osbuild.machine-id", {"first-boot": "no"})
    assert stage.read("etc/machine-id") == ""
    assert stage.mode("etc/machine-id") == 0o444
    (tree / "var/lib/dbus").mkdir(parents=True)
    (tree / "var/lib/dbus/machine-id").write_text("f" * 32, encoding="ascii")
    stage.ok("org.osbuild.machine-id", {"first-boot": "yes"})
    assert stage.read("etc/machine-id") == "uninitialized\n"
    assert (tree / "var/lib/dbus/machine-id").readlink() == Path("/etc/machine-id")


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_modes_of_directories_do_not_depend_on_the_umask(stage: Stage, umask: int) -> None:
    paths = [{"path": "/a/b/c", "parents": True}, {"path": "/s", "mode": 0o1777}]
    stage.ok("org.osbuild.mkdir", {"paths": paths}, umask=umask)
    assert [stage.mode(path) for path in ("a", "a/b", "a/b/c", "s")] == [0o755, 0o755, 0o755, 0o1777]


def test_an_existing_directory_is_an_error_unless_allowed(stage: Stage, tree: Path) -> None:
    (tree / "a").mkdir(mode=0o700)
    assert "FileExistsError" in stage.refused("org.osbuild.mkdir", {"paths": [{"path": "/a"}]})
    stage.ok("org.osbuild.mkdir", {"paths": [{"path": "/a", "exist_ok": True}]})
    assert stage.mode("a") == 0o700
    stage.ok("org.osbuild.mkdir", {"paths": [{"path": "/a", "exist_ok": True, "mode": 0o711}]})
    assert stage.mode("a") == 0o711
    assert "FileNotFoundError" in stage.refused("org.osbuild.mkdir", {"paths": [{"path": "/x/y"}]})


def test_a_file_is_not_an_existing_directory(stage: Stage, tree: Path) -> None:
    (tree / "a").touch()
    assert "FileExistsError" in stage.refused("org.osbuild.mkdir", {"paths": [{"path": "/a", "exist_ok": True}]})


def test_fstab_has_one_line_for_each_file_system(stage: Stage, tree: Path) -> None:
    (tree / "etc").mkdir()
    filesystems = [
        {"uuid": "1-2", "path": "/", "vfs_type": "ext4", "options": "ro", "freq": 1, "passno": 1},
        {"label": "root", "path": "/a"},
        {"partlabel": "EFI System", "path": "/boot/efi"},
        {"device": "/dev/x", "path": "none", "vfs_type": "swap"},
    ]
    stage.ok("org.osbuild.fstab", {"filesystems": filesystems})
    assert stage.read("etc/fstab").splitlines() == [
        "UUID=1-2\t/\text4\tro\t1\t1",
        "LABEL=root\t/a\tnone\tdefaults\t0\t0",
        "PARTLABEL=EFI\\040System\t/boot/efi\tnone\tdefaults\t0\t0",
        "/dev/x\tnone\tswap\tdefaults\t0\t0",
    ]


def test_a_label_cannot_add_a_line_to_fstab(stage: Stage, tree: Path) -> None:
    (tree / "etc").mkdir()
    stage.ok("org.osbuild.fstab", {"filesystems": [{"label": "a\n/dev/evil /etc ext4 rw 0 0", "path": "/"}]})
    assert len(stage.read("etc/fstab").splitlines()) == 1


def test_sysctls_are_written_in_order(stage: Stage) -> None:
    config = [{"key": "kernel.b", "value": "2"}, {"key": "-kernel.a"}]
    stage.ok("org.osbuild.sysctld", {"filename": "x.conf", "config": config})
    assert stage.read("usr/lib/sysctl.d/x.conf") == "kernel.b = 2\n-kernel.a\n"
    stage.ok("org.osbuild.sysctld", {"filename": "x.conf", "path": "/etc/sysctl.d", "config": config})
    assert stage.read("etc/sysctl.d/x.conf") == "kernel.b = 2\n-kernel.a\n"


@pytest.mark.parametrize(
    ("size", "expected"), [("512", 512), ("3K", 3072), ("2M", 2 << 20), ("1G", 1 << 30), ("1T", 1 << 40)]
)
def test_a_file_of_a_size_takes_no_room(stage: Stage, tree: Path, size: str, expected: int) -> None:
    stage.ok("org.osbuild.truncate", {"filename": "d", "size": size})
    assert (tree / "d").stat().st_size == expected
    assert (tree / "d").stat().st_blocks == 0


def test_truncate_keeps_what_is_there(stage: Stage, tree: Path) -> None:
    (tree / "d").write_text("abc", encoding="ascii")
    stage.ok("org.osbuild.truncate", {"filename": "/d", "size": "5"})
    assert (tree / "d").read_bytes() == b"abc\0\0"
    stage.ok("org.osbuild.truncate", {"filename": "/d", "size": "2"})
    assert (tree / "d").read_bytes() == b"ab"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("org.osbuild.truncate", {"filename": "../outside", "size": "1"}),
        ("org.osbuild.truncate", {"filename": "link/outside", "size": "1"}),
        ("org.osbuild.mkdir", {"paths": [{"path": "/link/outside"}]}),
        ("org.osbuild.chmod", {"items": {"/link/victim": {"mode": "0777"}}}),
        ("org.osbuild.chown", {"items": {"/link/victim": {"user": 1}}}),
        ("org.osbuild.copy", {"paths": [{"from": "tree:///a", "to": "tree:///link/outside"}]}),
        ("org.osbuild.copy", {"paths": [{"from": "tree:///link/victim", "to": "tree:///b"}]}),
        ("org.osbuild.copy", {"paths": [{"from": "tree:///../victim", "to": "tree:///b"}]}),
    ],
)
def test_a_path_that_leaves_the_tree_is_refused(
    stage: Stage, tree: Path, tmp_path: Path, name: str, options: dict[str, Any]
) -> None:
    (tmp_path / "victim").touch(mode=0o600)
    (tree / "a").touch()
    (tree / "link").symlink_to(tmp_path)
    assert "leaves the tree" in stage.refused(name, options)
    assert not (tmp_path / "outside").exists()
    assert (tmp_path / "victim").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tree.iterdir()) == ["a", "link"]


def test_modes_are_changed_for_one_path_or_for_all_below(stage: Stage, tree: Path) -> None:
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/c").touch(mode=0o644)
    (tree / "-x").touch(mode=0o644)
    items = {"/a": {"mode": "go-rwx", "recursive": True}, "/a/b": {"mode": "2755"}, "/-x": {"mode": "0400"}}
    stage.ok("org.osbuild.chmod", {"items": items})
    assert [stage.mode(path) for path in ("a", "a/b", "a/b/c", "-x")] == [0o700, 0o2755, 0o600, 0o400]


@pytest.mark.root
def test_owners_are_those_of_the_trees_accounts(stage: Stage, tree: Path) -> None:
    (tree / "etc").mkdir()
    (tree / "etc/passwd").write_text("daemon:x:4001:1::/:/x\n", encoding="ascii")
    (tree / "etc/group").write_text("adm:x:4002:\n", encoding="ascii")
    (tree / "a").mkdir()
    (tree / "a/b").touch()
    (tree / "link").symlink_to("/etc/shadow")
    items = {
        "/a": {"user": "daemon", "recursive": True},
        "/a/b": {"group": "adm"},
        "/link": {"user": 4003, "group": "4004"},
    }
    stage.ok("org.osbuild.chown", {"items": items})
    owners = [(os.lstat(tree / path).st_uid, os.lstat(tree / path).st_gid) for path in ("a", "a/b", "link")]
    assert owners == [(4001, 0), (4001, 4002), (4003, 4004)]
    assert Path("/etc/shadow").stat().st_uid == 0
    assert "no user named nobody" in stage.refused("org.osbuild.chown", {"items": {"/a": {"user": "nobody"}}})
    assert "no group named nobody" in stage.refused("org.osbuild.chown", {"items": {"/a": {"group": "nobody"}}})


def test_what_belongs_to_one_machine_is_taken_out_and_nothing_else(stage: Stage, tree: Path) -> None:
    removed = (
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_rsa_key.pub",
        "etc/shadow-",
        "etc/.pwd.lock",
        "var/lib/systemd/random-seed",
        "var/lib/dpkg/status-old",
        "var/lib/dpkg/lock-frontend",
        "var/cache/apt/pkgcache.bin",
        "var/cache/man/index.db",
        "var/log/dpkg.log",
        "run/pid",
        "tmp/.hidden/file",
        "var/lib/apt/lists/partial/x",
    )
    kept = ("etc/ssh/sshd_config", "etc/shadow", "var/lib/dpkg/status", "var/log/journal/x", "root/.profile")
    for name in (*removed, *kept, "var/log/lastlog"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x", encoding="ascii")
    (tree / "tmp/link").symlink_to(tree / "etc")
    stage.ok("org.kiln.reset-instance", {})
    left = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()}
    assert left == {*kept, "var/log/lastlog"}
    assert stage.read("var/log/lastlog") == ""
    assert (tree / "run").is_dir()
    assert list((tree / "tmp").iterdir()) == []


def test_what_is_removed_is_gone_with_all_below_and_links_lead_nowhere(
    stage: Stage, tree: Path, tmp_path: Path
) -> None:
    (tree / "a/b").mkdir(parents=True)
    (tree / "file").touch()
    (tmp_path / "outside").mkdir()
    (tree / "a/b/link").symlink_to(tmp_path / "outside")
    (tree / "link").symlink_to(tmp_path / "outside")
    stage.ok("org.kiln.remove", {"paths": ["/a", "/file", "/link", "/missing"]})
    assert list(tree.iterdir()) == []
    assert (tmp_path / "outside").is_dir()
    assert "leaves the tree" in stage.refused("org.kiln.remove", {"paths": ["/../outside"]})


def source(tmp_path: Path, name: str = "files") -> tuple[Path, dict[str, Any]]:
    directory = tmp_path / "inputs" / name
    directory.mkdir(parents=True)
    return directory, {name: {"path": str(directory)}}


@pytest.mark.root
def test_a_fetched_file_keeps_its_mode_but_not_its_owner_or_time(stage: Stage, tree: Path, tmp_path: Path) -> None:
    directory, inputs = source(tmp_path)
    file = directory / "sha256:x"
    file.write_text("data", encoding="ascii")
    file.chmod(0o640)
    os.chown(file, 4001, 4001)
    os.utime(file, (1, 1))
    (tree / "d").mkdir()
    paths = [{"from": "input://files/sha256:x", "to": to} for to in ("tree:///a", "tree:///d/", "tree:///d/named")]
    stage.ok("org.osbuild.copy", {"paths": paths}, inputs=inputs)
    for path in ("a", "d/sha256:x", "d/named"):
        status = (tree / path).stat()
        assert (stage.read(path), stage.mode(path), status.st_uid) == ("data", 0o640, 0)
        assert status.st_mtime > 1


@pytest.mark.root
def test_directories_links_and_files_of_trees_are_copied_as_they_are(stage: Stage, tree: Path, tmp_path: Path) -> None:
    directory, inputs = source(tmp_path)
    (directory / "d/sub").mkdir(parents=True)
    (directory / "d/file").write_text("x", encoding="ascii")
    os.chown(directory / "d/file", 4001, 4002)
    os.utime(directory / "d/file", (5, 5))
    (directory / "link").symlink_to("/nowhere")
    paths = [
        {"from": "input://files/d", "to": "tree:///copied"},
        {"from": "input://files/d/", "to": "tree:///"},
        {"from": "input://files/link", "to": "tree:///link"},
        {"from": "tree:///copied/file", "to": "tree:///again"},
    ]
    stage.ok("org.osbuild.copy", {"paths": paths}, inputs=inputs)
    assert (tree / "link").readlink() == Path("/nowhere")
    assert (tree / "sub").is_dir()
    for path in ("copied/file", "file", "again"):
        status = (tree / path).stat()
        assert (status.st_uid, status.st_gid, status.st_mtime) == (4001, 4002, 5)


def test_a_copy_replaces_links_and_does_not_write_through_them(stage: Stage, tree: Path, tmp_path: Path) -> None:
    directory, inputs = source(tmp_path)
    (directory / "f").write_text("new", encoding="ascii")
    (tmp_path / "victim").write_text("old", encoding="ascii")
    (tree / "link").symlink_to(tmp_path / "victim")
    (tree / "dangling").symlink_to("/run/x/y")
    (tree / "one").write_text("old", encoding="ascii")
    (tree / "other").hardlink_to(tree / "one")
    paths = [{"from": "input://files/f", "to": f"tree:///{name}"} for name in ("link", "dangling", "one")]
    stage.ok("org.osbuild.copy", {"paths": paths}, inputs=inputs)
    assert [stage.read(name) for name in ("link", "dangling", "one", "other")] == ["new", "new", "new", "old"]
    assert (tmp_path / "victim").read_text(encoding="ascii") == "old"


def test_a_copied_disk_image_stays_sparse(stage: Stage, tree: Path, tmp_path: Path) -> None:
    directory, inputs = source(tmp_path)
    with (directory / "disk").open("wb") as file:
        file.truncate(1 << 30)
    stage.ok("org.osbuild.copy", {"paths": [{"from": "input://files/disk", "to": "tree:///disk"}]}, inputs=inputs)
    assert (tree / "disk").stat().st_size == 1 << 30
    assert (tree / "disk").stat().st_blocks < 100


def test_a_copy_from_an_unknown_input_is_refused(stage: Stage) -> None:
    paths = [{"from": "input://other/f", "to": "tree:///f"}]
    assert "there is no `other`" in stage.refused("org.osbuild.copy", {"paths": paths}, inputs={})
