"""Stages that write configuration: the bytes they write, and what the real programs say of them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from stage_tools import put, tool

Stage = Any


def test_links_are_made_in_the_tree_and_in_mounts(stage: Stage, tmp_path: Path) -> None:
    put(stage.tree, "usr/a", "text")
    root = tmp_path / "work/mounts/root"
    root.mkdir(parents=True)
    links = [
        {"target": "../usr/a", "link_name": "tree:///etc-link", "symbolic": True},
        {"target": "/usr/a", "link_name": "tree:///usr/b"},
        {"target": "a", "link_name": "tree:///usr/c"},
        {"target": "/x", "link_name": "mount://root/y", "symbolic": True},
    ]
    stage.ok("org.osbuild.ln", {"paths": links}, mounts={"root": {"path": str(root)}})
    assert str((stage.tree / "etc-link").readlink()) == "../usr/a"
    assert str((root / "y").readlink()) == "/x"
    assert (stage.tree / "usr/a").stat().st_nlink == 3


@pytest.mark.parametrize("target", ["../../etc/passwd", "/../../etc/passwd"])
def test_a_hard_link_cannot_reach_out_of_the_tree(stage: Stage, target: str) -> None:
    assert "leaves the tree" in stage.refused(
        "org.osbuild.ln", {"paths": [{"target": target, "link_name": "tree:///x"}]}
    )


def test_an_existing_link_is_an_error(stage: Stage) -> None:
    put(stage.tree, "x", "")
    stage.refused("org.osbuild.ln", {"paths": [{"target": "y", "link_name": "tree:///x", "symbolic": True}]})


def test_keymap_writes_for_console_and_x11(stage: Stage) -> None:
    stage.ok("org.osbuild.keymap", {"keymap": "de-latin1", "font": "x", "x11-keymap": {"layouts": ["de", "us"]}})
    assert stage.read("etc/vconsole.conf") == "KEYMAP=de-latin1\nFONT=x\n"
    assert 'Option "XkbLayout" "de,us"\n' in stage.read("etc/X11/xorg.conf.d/00-keyboard.conf")
    assert not (stage.tree / "etc/default/keyboard").exists()


def test_keymap_speaks_to_debians_console_setup(stage: Stage) -> None:
    (stage.tree / "etc/console-setup").mkdir(parents=True)
    stage.ok("org.osbuild.keymap", {"keymap": "de-latin1"})
    assert 'XKBLAYOUT="de"\n' in stage.read("etc/default/keyboard")


def test_a_written_file_does_not_follow_links_or_hard_links(stage: Stage, tmp_path: Path) -> None:
    outside = put(tmp_path, "outside", "old")
    (stage.tree / "etc").mkdir()
    (stage.tree / "etc/vconsole.conf").symlink_to(outside)
    stage.ok("org.osbuild.keymap", {"keymap": "us"})
    assert outside.read_text() == "old"
    (stage.tree / "etc/zipl.conf").hardlink_to(outside)
    stage.ok("org.osbuild.zipl", {})
    assert outside.read_text() == "old"
    (stage.tree / "etc/X11").symlink_to(tmp_path)
    assert "leaves the tree" in stage.refused("org.osbuild.keymap", {"keymap": "us", "x11-keymap": {"layouts": ["us"]}})


def test_sshd_options_are_changed_in_place_and_never_behind_a_match(stage: Stage) -> None:
    path = put(
        stage.tree,
        "etc/ssh/sshd_config",
        "# PermitRootLogin no\npasswordauthentication yes\nMatch User x\n  PermitRootLogin yes",
        0o600,
    )
    config = {"PasswordAuthentication": False, "PermitRootLogin": "prohibit-password", "ClientAliveInterval": 30}
    stage.ok("org.osbuild.sshd.config", {"config": config})
    assert path.read_text() == (
        "# PermitRootLogin no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nClientAliveInterval 30\n"
        "Match User x\n  PermitRootLogin yes\n"
    )
    assert stage.mode("etc/ssh/sshd_config") == 0o600


def test_sshd_reads_what_was_set(stage: Stage, needs: Callable[..., None], tmp_path: Path) -> None:
    needs("sshd", "ssh-keygen")
    key = tmp_path / "key"
    tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    path = put(stage.tree, "etc/ssh/sshd_config", f"HostKey {key}\nPasswordAuthentication yes\n")
    stage.ok("org.osbuild.sshd.config", {"config": {"PasswordAuthentication": False, "PermitRootLogin": False}})
    Path("/run/sshd").mkdir(exist_ok=True)
    said = tool("/usr/sbin/sshd", "-T", "-f", path).decode()
    assert "passwordauthentication no\n" in said
    assert "permitrootlogin no\n" in said


def test_sshd_without_its_file_is_an_error(stage: Stage) -> None:
    assert "no /etc/ssh/sshd_config" in stage.refused("org.osbuild.sshd.config", {"config": {}})


def test_a_drop_in_is_written_below_its_unit(stage: Stage) -> None:
    stage.ok(
        "org.osbuild.systemd.unit",
        {"unit": "a.service", "dropin": "b.conf", "config": {"Service": {"Environment": "A=b"}}},
    )
    assert stage.read("usr/lib/systemd/system/a.service.d/b.conf") == "[Service]\nEnvironment=A=b\n"
    options = {
        "unit": "a.service",
        "dropin": "b.conf",
        "unit-type": "global",
        "config": {"Service": {"Environment": [{"key": "A", "value": 'x "y"'}, {"key": "B", "value": ""}]}},
    }
    stage.ok("org.osbuild.systemd.unit", options)
    text = stage.read("usr/lib/systemd/user/a.service.d/b.conf")
    assert text == '[Service]\nEnvironment="A=x \\"y\\""\nEnvironment="B="\n'


def test_a_unit_is_written_and_systemd_accepts_it(stage: Stage, needs: Callable[..., None]) -> None:
    config = {
        "Unit": {"Description": "d", "After": ["a.service", "b.service"], "DefaultDependencies": False},
        "Service": {
            "Type": "oneshot",
            "ExecStart": ["/bin/true", "/bin/false"],
            "RemainAfterExit": True,
            "Environment": [{"key": "A", "value": "b c"}],
        },
        "Install": {"WantedBy": ["multi-user.target"]},
    }
    stage.ok("org.osbuild.systemd.unit.create", {"filename": "k.service", "unit-path": "etc", "config": config})
    assert stage.read("etc/systemd/system/k.service") == (
        "[Unit]\nDescription=d\nAfter=a.service\nAfter=b.service\nDefaultDependencies=no\n\n"
        "[Service]\nType=oneshot\nExecStart=/bin/true\nExecStart=/bin/false\nRemainAfterExit=yes\n"
        'Environment="A=b c"\n\n[Install]\nWantedBy=multi-user.target\n'
    )
    needs("systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", stage.tree / "etc/systemd/system/k.service"],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert "k.service" not in done.stderr, done.stderr


def test_a_named_pipe_is_spelt_as_systemd_spells_it(stage: Stage) -> None:
    options = {"filename": "k.socket", "unit-type": "global", "config": {"Socket": {"ListenFifo": "/run/k"}}}
    stage.ok("org.osbuild.systemd.unit.create", options)
    assert stage.read("usr/lib/systemd/user/k.socket") == "[Socket]\nListenFIFO=/run/k\n"


def test_presets_are_written_in_order(stage: Stage) -> None:
    presets = [{"name": "b.service", "state": "enable"}, {"name": "*", "state": "disable"}]
    stage.ok("org.osbuild.systemd.preset", {"presets": presets})
    assert stage.read("usr/lib/systemd/system-preset/50-osbuild.preset") == "enable b.service\ndisable *\n"


def test_a_unit_with_two_presets_is_an_error(stage: Stage) -> None:
    presets = [{"name": "b.service", "state": "enable"}, {"name": "b.service", "state": "disable"}]
    assert "b.service is given two states" in stage.refused("org.osbuild.systemd.preset", {"presets": presets})


SYSUSERS = {
    "config": {
        "filename": "k.conf",
        "entries": [
            {"type": "g", "name": "kg", "id": "350"},
            {"type": "u", "name": "ku", "id": "351:350", "gecos": "K u", "home": "/var/k", "shell": "/bin/sh"},
            {"type": "m", "name": "ku", "id": "users"},
        ],
    }
}


def test_sysusers_calls_the_build_roots_program(stage: Stage) -> None:
    stage.fakes.add("systemd-sysusers")
    put(stage.tree, "opt/x.conf", "g x -\n")
    stage.ok("org.osbuild.systemd-sysusers", {**SYSUSERS, "paths": ["tree:///opt/x.conf"]})
    assert stage.fakes.calls == [["systemd-sysusers", f"--root={stage.tree}"]]
    assert stage.read("usr/lib/sysusers.d/x.conf") == "g x -\n"
    assert stage.read("usr/lib/sysusers.d/k.conf").splitlines()[1] == 'u ku 351:350 "K u" /var/k /bin/sh'
    stage.ok("org.osbuild.systemd-sysusers", {**SYSUSERS, "apply": False})
    assert len(stage.fakes.calls) == 1


@pytest.mark.root
def test_sysusers_creates_the_accounts(stage: Stage, needs: Callable[..., None]) -> None:
    needs("systemd-sysusers")
    (stage.tree / "etc").mkdir()
    stage.ok("org.osbuild.systemd-sysusers", SYSUSERS)
    assert "ku:x:351:350:K u:/var/k:/bin/sh\n" in stage.read("etc/passwd")
    assert "kg:x:350:\n" in stage.read("etc/group")


TMPFILES = {
    "filename": "k.conf",
    "config": [
        {"type": "d", "path": "/var/a b", "mode": "0750", "user": "root", "group": "root", "age": "10d"},
        {"type": "f", "path": "/var/f", "argument": "some text"},
    ],
}


def test_tmpfiles_lines(stage: Stage) -> None:
    stage.ok("org.osbuild.tmpfilesd", TMPFILES)
    assert stage.read("usr/lib/tmpfiles.d/k.conf") == 'd "/var/a b" 0750 root root 10d -\nf /var/f - - - - some text\n'


@pytest.mark.root
def test_systemd_tmpfiles_reads_them(stage: Stage, needs: Callable[..., None]) -> None:
    needs("systemd-tmpfiles")
    stage.ok("org.osbuild.tmpfilesd", TMPFILES)
    put(stage.tree, "etc/passwd", "root:x:0:0::/root:/bin/sh\n")
    put(stage.tree, "etc/group", "root:x:0:\n")
    tool("systemd-tmpfiles", f"--root={stage.tree}", "--create", "--prefix=/var")
    assert stage.mode("var/a b") == 0o750
    assert stage.read("var/f") == "some text"


MODPROBE = {
    "filename": "k.conf",
    "commands": [
        {"command": "blacklist", "modulename": "floppy"},
        {"command": "install", "modulename": "firewire-core", "cmdline": "/bin/true --ignored"},
    ],
}


def test_modprobe_commands(stage: Stage) -> None:
    stage.ok("org.osbuild.modprobe", MODPROBE)
    assert stage.read("usr/lib/modprobe.d/k.conf") == "blacklist floppy\ninstall firewire-core /bin/true --ignored\n"


def test_modprobe_reads_them(stage: Stage, needs: Callable[..., None]) -> None:
    needs("modprobe")
    stage.ok("org.osbuild.modprobe", MODPROBE)
    said = tool("modprobe", "-C", stage.tree / "usr/lib/modprobe.d", "--showconfig").decode()
    assert "blacklist floppy\n" in said
    assert "install firewire_core /bin/true --ignored\n" in said


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, ""),
        ({"root_fs_uuid": "6699-AFB5"}, "root=UUID=6699-AFB5"),
        ({"root_fs_uuid": "6699-AFB5", "kernel_opts": "ro quiet"}, "root=UUID=6699-AFB5 ro quiet"),
    ],
)
def test_kernel_command_line(stage: Stage, options: dict[str, str], text: str) -> None:
    stage.ok("org.osbuild.kernel-cmdline", options)
    assert stage.read("etc/kernel/cmdline") == text


def test_chronys_sources_are_replaced(stage: Stage) -> None:
    put(
        stage.tree,
        "etc/chrony.conf",
        "# pool comment\npool 2.x iburst\n server y\nserverkey z\nleapsectz right/UTC\nkeep 1\n",
    )
    servers = [{"hostname": "a", "minpoll": 2, "iburst": False, "prefer": True}, {"hostname": "b"}]
    clocks = [
        {"driver": {"name": "PHC", "path": "/dev/ptp0", "extpps": True, "pin": 1}, "poll": 3, "dpoll": -2, "offset": 0},
        {"driver": {"name": "SHM", "segment": 1, "perm": "0644"}},
    ]
    stage.ok("org.osbuild.chrony", {"servers": servers, "refclocks": clocks, "leapsectz": ""})
    assert stage.read("etc/chrony.conf") == (
        "server a minpoll 2 prefer\nserver b iburst\nrefclock PHC /dev/ptp0:extpps:pin=1 poll 3 dpoll -2 offset 0\n"
        "refclock SHM 1:perm=0644\n# pool comment\nserverkey z\nkeep 1\n"
    )


def test_chrony_of_debian_is_where_debian_has_it(stage: Stage, needs: Callable[..., None]) -> None:
    put(stage.tree, "etc/chrony/chrony.conf", "pool x iburst\nconfdir /etc/chrony/conf.d\n")
    stage.ok("org.osbuild.chrony", {"timeservers": ["192.0.2.1"], "leapsectz": "right/UTC"})
    text = stage.read("etc/chrony/chrony.conf")
    assert text == "server 192.0.2.1 iburst\nleapsectz right/UTC\nconfdir /etc/chrony/conf.d\n"
    needs("chronyd")
    assert b"192.0.2.1" in tool("chronyd", "-p", "-f", stage.tree / "etc/chrony/chrony.conf")


def test_chrony_without_its_file_is_an_error(stage: Stage) -> None:
    assert "/etc/chrony.conf" in stage.refused("org.osbuild.chrony", {"timeservers": []})


def test_nginx_accepts_the_configuration(stage: Stage, needs: Callable[..., None], tmp_path: Path) -> None:
    config = {"listen": "127.0.0.1:18080", "root": "/srv/www", "pid": f"{tmp_path}/pid", "daemon": False}
    stage.ok("org.osbuild.nginx.conf", {"path": "/etc/n/x.conf", "config": config})
    text = stage.read("etc/n/x.conf")
    assert text.startswith(f"daemon off;\npid {tmp_path}/pid;\n")
    needs("nginx")
    tool("nginx", "-t", "-q", "-c", stage.tree / "etc/n/x.conf", "-p", tmp_path)


def test_nginx_defaults(stage: Stage) -> None:
    stage.ok("org.osbuild.nginx.conf", {})
    text = stage.read("etc/nginx/nginx.conf")
    for line in ("daemon on;", "pid /run/nginx.pid;", "listen *:80;", "root /usr/share/nginx/html;"):
        assert line in text


def test_cloud_inits_file_is_the_yaml_of_the_options(stage: Stage) -> None:
    config = {
        "ssh_pwauth": False,
        "datasource_list": ["Azure", "None"],
        "datasource": {"Azure": {"apply_network_config": True}},
        "output": {"all": '| tee -a "/var/log/x": yes'},
    }
    stage.ok("org.osbuild.cloud-init", {"filename": "k.cfg", "config": config})
    assert yaml.safe_load(stage.read("etc/cloud/cloud.cfg.d/k.cfg")) == config


NFTABLES = {
    "policy": "reject",
    "allow": [
        {"protocol": "tcp", "ports": ["22", "8000-8010"], "comment": "shell"},
        {"protocol": "udp", "ports": ["53"], "sources": ["10.0.0.0/8", "2001:db8::/32"]},
    ],
}


def test_packet_filter_rules(stage: Stage) -> None:
    stage.ok("org.kiln.nftables", NFTABLES)
    lines = [line.strip() for line in stage.read("etc/nftables.conf").splitlines()]
    assert 'tcp dport { 22, 8000-8010 } accept comment "shell"' in lines
    assert "ip saddr { 10.0.0.0/8 } udp dport { 53 } accept" in lines
    assert "ip6 saddr { 2001:db8::/32 } udp dport { 53 } accept" in lines
    assert lines[lines.index("reject") + 1] == "}"
    assert stage.mode("etc/nftables.conf") == 0o755


@pytest.mark.root
def test_nft_accepts_the_packet_filter(stage: Stage, needs: Callable[..., None]) -> None:
    needs("nft", "unshare")
    stage.ok("org.kiln.nftables", NFTABLES)
    done = subprocess.run(
        ["unshare", "--net", "nft", "--check", "--file", stage.tree / "etc/nftables.conf"],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    if "Operation not supported" in done.stderr or "cache initialization failed" in done.stderr:
        pytest.skip("this kernel has no nf_tables")
    assert done.returncode == 0, done.stderr


def test_selinux_state_is_changed_in_place(stage: Stage) -> None:
    put(stage.tree, "etc/selinux/config", "# SELINUX=x\nSELINUX=enforcing\n")
    stage.ok("org.osbuild.selinux.config", {"state": "permissive", "type": "targeted"})
    assert stage.read("etc/selinux/config") == "# SELINUX=x\nSELINUX=permissive\nSELINUXTYPE=targeted\n"


def test_zipl_configuration(stage: Stage) -> None:
    stage.ok("org.osbuild.zipl", {"timeout": 7})
    assert stage.read("etc/zipl.conf").splitlines() == [
        "[defaultboot]",
        "defaultauto",
        "prompt=1",
        "timeout=7",
        "target=/boot",
    ]


PROFILE = (
    "include <tunables/global>\nprofile kiln-test /usr/bin/kiln-test {\n  include <abstractions/base>\n  /etc/x r,\n}\n"
)


def test_a_profile_is_compiled_against_the_tree_and_gets_its_mode(stage: Stage) -> None:
    stage.fakes.add("apparmor_parser")
    put(stage.tree, "etc/apparmor.d/old", "profile old {}")
    base = stage.tree / "etc/apparmor.d"
    (base / "disable").mkdir()
    (base / "disable/usr.bin.x").symlink_to("/etc/apparmor.d/usr.bin.x")
    profiles = {"usr.bin.x": {"content": PROFILE, "mode": "complain"}, "old": {"mode": "disable"}}
    stage.ok("org.kiln.apparmor", {"profiles": profiles})
    (call,) = stage.fakes.calls
    assert call[-3:] == ["--base", str(base), str(base / "usr.bin.x")]
    assert "--skip-kernel-load" in call
    assert str((base / "force-complain/usr.bin.x").readlink()) == "/etc/apparmor.d/usr.bin.x"
    assert str((base / "disable/old").readlink()) == "/etc/apparmor.d/old"
    assert not (base / "disable/usr.bin.x").is_symlink()


def test_a_profile_with_a_mistake_is_found(stage: Stage, needs: Callable[..., None]) -> None:
    needs("apparmor_parser")
    if not Path("/etc/apparmor.d/abstractions/base").exists():
        pytest.skip("this machine has no abstractions of AppArmor")
    for name in ("abstractions", "tunables", "abi"):
        shutil.copytree(f"/etc/apparmor.d/{name}", stage.tree / "etc/apparmor.d" / name)
    stage.ok("org.kiln.apparmor", {"profiles": {"k": {"content": PROFILE}}})
    said = stage.refused("org.kiln.apparmor", {"profiles": {"k": {"content": PROFILE.replace(" r,", " q")}}})
    assert "apparmor_parser ended with status" in said


def test_a_profile_that_the_tree_lacks_is_an_error(stage: Stage) -> None:
    assert "no profile nothing" in stage.refused("org.kiln.apparmor", {"profiles": {"nothing": {"mode": "complain"}}})
