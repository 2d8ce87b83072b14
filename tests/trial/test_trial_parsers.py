"""Reading what a guest prints: the real forms, and anything at all without an exception."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.trial import parsers
from kiln.trial.parsers import (
    Listener,
    decode_base64,
    parse_failed_units,
    parse_files,
    parse_http,
    parse_listeners,
    parse_modules,
    parse_mounts,
    parse_names,
    parse_packages,
    parse_processes,
    parse_sshd,
    parse_sysctls,
    parse_units,
)
from kiln.trial.ssh import parse_methods

TEXT_PARSERS = [
    value for name, value in sorted(vars(parsers).items()) if name.startswith("parse_") and name != "parse_http"
]


@pytest.mark.parametrize("parse", [*TEXT_PARSERS, parse_methods, decode_base64])
@given(st.text(max_size=400))
def test_nothing_that_a_guest_prints_makes_a_parser_fail(parse, text: str) -> None:
    parse(text)


@given(st.binary(max_size=400))
def test_no_bytes_make_the_http_reader_fail(raw: bytes) -> None:
    parse_http(raw)


def test_units_are_found_by_every_name() -> None:
    text = (
        "Type=notify\nResult=success\nId=ssh.service\nNames=sshd.service ssh.service\nLoadState=loaded\n"
        "ActiveState=active\nSubState=running\nUnitFileState=enabled\n"
        "\nType=\nResult=success\nId=nope.service\nNames=nope.service\nLoadState=not-found\nActiveState=inactive\n"
        "SubState=dead\nUnitFileState=\n"
    )
    units = parse_units(text)
    assert units["ssh.service"] is units["sshd.service"]
    assert units["ssh.service"].active == "active"
    assert units["nope.service"].load == "not-found"


def packed(address: str) -> str:
    raw = ipaddress.ip_address(address).packed
    words = struct.unpack(f">{len(raw) // 4}I", raw)
    return struct.pack(f"<{len(words)}I", *words).hex().upper()


def line(address: str, port: int, state: str) -> str:
    return (
        f"   0: {packed(address)}:{port:04X} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 1234 1\n"
    )


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)), st.integers(1, 65535), st.sampled_from(["tcp", "udp"]))
def test_listeners_are_read_as_the_kernel_prints_them(address, port: int, protocol) -> None:
    table = protocol + ("6" if address.version == 6 else "")
    text = f"{table}\n  sl  local_address rem_address   st\n" + line(
        str(address), port, "0A" if protocol == "tcp" else "07"
    )
    (found,) = parse_listeners(text)
    assert (ipaddress.ip_address(found.address), found.port, found.protocol) == (address, port, protocol)


def test_connections_are_no_listeners() -> None:
    assert parse_listeners("tcp\n" + line("10.0.2.15", 22, "01") + "udp\n" + line("10.0.2.15", 68, "01")) == ()


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_loopback_is_loopback(address: str, loopback: bool) -> None:
    assert Listener("tcp", address, 80).loopback is loopback


def test_processes_have_names_and_arguments() -> None:
    text = (
        "/proc/1/comm:systemd\n/proc/7/comm:fail2ban-server\n/proc/9/comm:kthreadd\n"
        "/proc/1/cmdline:/sbin/init\x1f\n/proc/7/cmdline:/usr/bin/python3\x1f/usr/bin/fail2ban-server\x1f-xf\x1f\n"
    )
    found = {process.pid: process for process in parse_processes(text)}
    assert found[7].arguments[1] == "/usr/bin/fail2ban-server"
    assert found[9].arguments == ()


def test_only_installed_packages_are_installed() -> None:
    text = "installed\tlibc6:amd64\t2.36-9\nconfig-files\told\t1.0\nnot-installed\tnever\t\n"
    assert parse_packages(text) == {"libc6": "2.36-9"}


def test_names_of_accounts() -> None:
    assert parse_names("root:x:0:0::/root:/bin/sh\ndocker:x:101:\n") == {"root", "docker"}


def test_settings_of_the_kernel_lose_their_tabs() -> None:
    text = "/proc/sys/net/ipv4/tcp_rmem:4096\t131072\t6291456\ngrep: /proc/sys/no/such: No such file or directory\n"
    assert parse_sysctls(text) == {"/proc/sys/net/ipv4/tcp_rmem": "4096 131072 6291456"}


def test_modules_are_loaded_or_built_in() -> None:
    assert parse_modules("overlay\nvirtio_net\nkernel/fs/ext4/ext4.ko\nkernel/drivers/x-y.ko.zst\n") == {
        "overlay",
        "virtio_net",
        "ext4",
        "x_y",
    }


def test_the_mount_on_top_is_the_one_that_counts_and_its_read_only_wins() -> None:
    text = (
        "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
        "30 22 0:25 / /mnt/a\\040b rw,nosuid,nodev - tmpfs tmpfs rw,size=10k\n"
        "31 22 254:1 /x /mnt/a\\040b ro,noexec shared:9 - ext4 /dev/vda1 rw\n"
    )
    mounts = parse_mounts(text)
    assert mounts["/"].options >= {"rw", "relatime"}
    assert mounts["/mnt/a b"].type == "ext4"
    assert "ro" in mounts["/mnt/a b"].options
    assert "rw" not in mounts["/mnt/a b"].options


def test_files_with_any_name() -> None:
    found = parse_files("640|root|shadow|regular file|/etc/shadow\n1777|root|root|directory|/tmp/a|b\n")
    assert found["/etc/shadow"].mode == 0o640
    assert found["/tmp/a|b"].mode == 0o1777


def test_sshd_settings_may_stand_several_times() -> None:
    settings = parse_sshd("port 22\nport 2222\npermitrootlogin no\nWarning: x\n")
    assert settings["port"] == ("22", "2222")
    assert settings["permitrootlogin"] == ("no",)


def test_failed_units() -> None:
    assert parse_failed_units("nginx.service loaded failed failed A web server\n\n") == ("nginx.service",)


def test_http_answers() -> None:
    response = parse_http(b"HTTP/1.0 301 Moved\r\nLocation: /x\r\n\r\nbody \xff")
    assert response is not None
    assert (response.status, response.body) == (301, "body \ufffd")
    assert parse_http(b"SSH-2.0-OpenSSH_9.2\r\n") is None


def test_methods_that_ssh_reports() -> None:
    assert parse_methods("kiln@127.0.0.1: Permission denied (publickey,keyboard-interactive).") == {
        "publickey",
        "keyboard-interactive",
    }
    assert parse_methods("Connection refused") is None
