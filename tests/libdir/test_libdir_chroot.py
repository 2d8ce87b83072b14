"""Stages that run the tree's own programs, in a mount namespace of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Stage = Any
LIBDIR = Path(__file__).parents[2] / "libdir"

pytestmark = pytest.mark.root


def line(text: str, name: str) -> list[str]:
    (found,) = [entry for entry in text.splitlines() if entry.startswith(f"{name}:")]
    return found.split(":")


def test_groups_are_made_and_existing_ones_left(chroot_stage: Stage) -> None:
    chroot_stage.fakes.add("groupadd")
    chroot_stage.ok("org.osbuild.groups", {"groups": {"users": {"gid": 5}, "docker": {}, "kiosk": {"gid": 1500}}})
    assert chroot_stage.fakes.calls == [["groupadd", "docker"], ["groupadd", "--gid", "1500", "kiosk"]]


def test_groups_with_the_real_program(chroot_stage: Stage) -> None:
    chroot_stage.ok("org.osbuild.groups", {"groups": {"users": {}, "kiosk": {"gid": 1500}}})
    assert line(chroot_stage.read("etc/group"), "kiosk") == ["kiosk", "x", "1500", ""]
    assert line(chroot_stage.read("etc/group"), "users")[2] == "100"


def test_accounts_are_made_or_changed_with_these_arguments(chroot_stage: Stage) -> None:
    chroot_stage.fakes.add("useradd", does='echo "$1:x:7:8::/home/$1:/bin/sh" >/dev/null')
    chroot_stage.fakes.add("usermod", "passwd")
    users = {
        "root": {"password": "$6$x", "groups": ["users"], "home": "/r"},
        "alice": {"uid": 1000, "gid": 100, "description": "A B", "home": "/home/a", "groups": ["users", "sudo"]},
        "svc": {"system": True, "shell": "/usr/sbin/nologin", "expiredate": 1, "force_password_reset": True},
    }
    chroot_stage.ok("org.osbuild.users", {"users": users})
    assert chroot_stage.fakes.calls == [
        ["usermod", "--home", "/r", "--groups", "users", "--append", "--password", "$6$x", "root"],
        [
            *("useradd", "--create-home", "--uid", "1000", "--gid", "100", "--comment", "A B"),
            *("--home-dir", "/home/a", "--groups", "users,sudo", "alice"),
        ],
        [
            *("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"),
            *("--expiredate", "1", "svc"),
        ],
        ["passwd", "--expire", "svc"],
    ]


def test_accounts_with_the_real_programs_are_the_same_at_any_time(chroot_stage: Stage) -> None:
    tree = chroot_stage.tree
    (tree / "etc/login.defs").write_text("HOME_MODE 0700\nUSERGROUPS_ENAB yes\n", encoding="ascii")
    users = {
        "alice": {"uid": 1234, "shell": "/bin/sh", "password": "$6$x$y", "keys": ["ssh-ed25519 AAA a", "ssh-rsa B b"]},
        "svc": {"system": True, "home": "/nonexistent"},
    }
    chroot_stage.ok("org.osbuild.users", {"users": users})
    chroot_stage.ok("org.osbuild.users", {"users": {"alice": {"description": "changed", "groups": ["users"]}}})
    assert line(chroot_stage.read("etc/passwd"), "alice")[2:] == ["1234", "1234", "changed", "/home/alice", "/bin/sh"]
    assert line(chroot_stage.read("etc/group"), "users")[3] == "alice"
    # The day of the last change is that of the source epoch, 2023-11-14.
    assert line(chroot_stage.read("etc/shadow"), "alice")[1:3] == ["$6$x$y", "19675"]
    assert line(chroot_stage.read("etc/shadow"), "svc")[1] == "!"
    keys = "home/alice/.ssh/authorized_keys"
    assert chroot_stage.read(keys) == "ssh-ed25519 AAA a\nssh-rsa B b\n"
    assert [chroot_stage.mode(path) for path in ("home/alice", "home/alice/.ssh", keys)] == [0o700, 0o700, 0o600]
    assert {(tree / path).stat().st_uid for path in ("home/alice", "home/alice/.ssh", keys)} == {1234}
    assert not (tree / "nonexistent").exists()
    assert [path.name for path in (tree / "etc").iterdir() if path.name.endswith("-")] in ([], ["subgid-", "subuid-"])


def test_units_are_masked_disabled_and_enabled_in_this_order(chroot_stage: Stage) -> None:
    chroot_stage.fakes.add("systemctl")
    options = {
        "enabled_services": ["a.service", "b.timer"],
        "disabled_services": ["c"],
        "masked_services": ["d"],
        "default_target": "multi-user.target",
    }
    chroot_stage.ok("org.osbuild.systemd", options)
    assert chroot_stage.fakes.calls == [
        ["systemctl", "mask", "--quiet", "d"],
        ["systemctl", "disable", "--quiet", "c"],
        ["systemctl", "enable", "--quiet", "a.service", "b.timer"],
        ["systemctl", "--quiet", "set-default", "multi-user.target"],
    ]


def test_units_with_the_real_systemctl(chroot_stage: Stage, needs: Any) -> None:
    needs("systemctl")
    units = chroot_stage.tree / "etc/systemd/system"
    units.mkdir(parents=True)
    text = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
    for name in ("kiln-a.service", "kiln-b.service"):
        (units / name).write_text(text, encoding="ascii")
    (units / "multi-user.target.wants").mkdir()
    (units / "multi-user.target.wants/kiln-b.service").symlink_to("/etc/systemd/system/kiln-b.service")
    options = {
        "enabled_services": ["kiln-a.service"],
        "disabled_services": ["kiln-b.service"],
        "masked_services": ["kiln-c.service"],
        "default_target": "multi-user.target",
    }
    chroot_stage.ok("org.osbuild.systemd", options)
    assert [path.name for path in (units / "multi-user.target.wants").iterdir()] == ["kiln-a.service"]
    assert (units / "kiln-c.service").readlink() == Path("/dev/null")
    assert (units / "default.target").readlink().name == "multi-user.target"
    chroot_stage.refused("org.osbuild.systemd", {"enabled_services": ["kiln-missing.service"]})


def test_initramfs_is_made_once_for_each_kernel(chroot_stage: Stage) -> None:
    tree = chroot_stage.tree
    # A /usr/lib of its own, in which there can be kernel modules.
    shown = [Path("/usr/bin"), *Path("/usr/lib").glob("*-linux-gnu"), Path("/usr/lib64")]
    chroot_stage.binds = [(str(path), f"{tree}{path}") for path in shown if path.is_dir()]
    chroot_stage.binds.append((str(chroot_stage.fakes.directory), f"{tree}/usr/local/sbin"))
    for _, target in chroot_stage.binds:
        Path(target).mkdir(parents=True)
    chroot_stage.fakes.add("update-initramfs", does=': >"/boot/initrd.img-$3"')
    (tree / "boot").mkdir()
    (tree / "vmlinuz").symlink_to("boot/vmlinuz-2")
    (tree / "initrd.img.old").symlink_to("boot/initrd.img-1")
    for name in ("2", "1"):
        (tree / "usr/lib/modules" / name).mkdir(parents=True)
    assert "no /etc/initramfs-tools" in chroot_stage.refused("org.kiln.initramfs", {})
    (tree / "etc/initramfs-tools/conf.d").mkdir(parents=True)
    chroot_stage.ok("org.kiln.initramfs", {"compression": "xz", "level": 6})
    assert chroot_stage.fakes.calls == [["update-initramfs", "-c", "-k", name] for name in ("1", "2")]
    config = chroot_stage.read("etc/initramfs-tools/conf.d/kiln.conf")
    assert config == "MODULES=most\nCOMPRESS=xz\nCOMPRESSLEVEL=6\n"
    assert (tree / "initrd.img").readlink() == Path("boot/initrd.img-2")
    assert sorted(path.name for path in (tree / "boot").iterdir()) == ["initrd.img-1", "initrd.img-2"]
    assert not (tree / "initrd.img.old").is_symlink()


def test_initramfs_without_a_kernel_is_refused(stage: Stage) -> None:
    assert "no kernel modules" in stage.refused("org.kiln.initramfs", {})


# Says what programs inside see, hides one of them, and shows what is left of it all afterwards.
INSIDE = """
import os, subprocess, sys
from osbuild.util import chroot
tree = sys.argv[1]
chroot.mount("/usr", tree + "/usr", None, chroot.MS_BIND)
before = open("/proc/self/mounts").read()
os.umask(0o077)
os.environ["SECRET"] = "x"
with chroot.Chroot(tree) as root:
    root.run(["sh", "-c", "pwd; umask; env | sort; ls -d /proc/self /dev/null /sys/kernel; ls -A /run /tmp"])
    root.run(["sh", "-c", "touch /run/x /tmp/y; echo kept >/kept"])
    root.hide("/usr/bin/hostid")
    root.hide("/usr/bin/missing")
    root.run(["sh", "-c", "echo hidden $(/usr/bin/hostid)"])
    try:
        root.run(["false"])
    except subprocess.CalledProcessError as error:
        print("failed", error.returncode)
try:
    with chroot.Chroot(tree) as root:
        raise KeyError("left by an error")
except KeyError:
    print("error")
try:
    chroot.mount("nothing", tree + "/missing", "tmpfs")
except OSError as error:
    print(error.filename == tree + "/missing")
print(open("/proc/self/mounts").read() == before)
"""


def test_what_programs_inside_see_and_that_nothing_of_it_stays(chroot_stage: Stage) -> None:
    tree = chroot_stage.tree
    environment = {"PATH": "/usr/sbin:/usr/bin", "PYTHONPATH": str(LIBDIR), "SOURCE_DATE_EPOCH": "5"}
    argv = ["unshare", "--mount", "--propagation", "private", sys.executable, "-u", "-c", INSIDE, str(tree)]
    done = subprocess.run(argv, check=True, env=environment, capture_output=True, encoding="utf-8")
    assert done.stdout.splitlines() == [
        "/",
        "0022",
        "HOME=/root",
        "LC_ALL=C.UTF-8",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PWD=/",
        "SOURCE_DATE_EPOCH=5",
        "TERM=dumb",
        "/dev/null",
        "/proc/self",
        "/sys/kernel",
        "/run:",
        "",
        "/tmp:",
        "hidden",
        "failed 1",
        "error",
        "True",
        "True",
    ]
    assert (tree / "kept").read_text(encoding="ascii") == "kept\n"
    for name, mode in (("proc", 0o755), ("sys", 0o755), ("dev", 0o755), ("run", 0o755), ("tmp", 0o1777)):
        assert list((tree / name).iterdir()) == []
        assert chroot_stage.mode(name) == mode
