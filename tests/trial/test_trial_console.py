"""The session over a serial console, with a real shell on a real terminal behind it."""

from __future__ import annotations

import base64
import gzip
import re
from pathlib import Path

import pytest
from guest_stand_in import login_on_terminal
from hypothesis import given
from hypothesis import strategies as st

from kiln.errors import KilnError
from kiln.events.model import NullSink
from kiln.trial import console as console_module
from kiln.trial.account import TestAccount
from kiln.trial.boot_watch import boot_failure, has_login_prompt, in_kernel, last_lines, plain
from kiln.trial.console import ConsoleSession, decode_lines
from kiln.trial.serial import SerialConsole

PATIENT = 120.0  # seconds
KERNEL = b'[   12.345678] audit: type=1400 audit(1.2:3): apparmor="STATUS"\n'


def make_account(home: Path) -> TestAccount:
    return type("Here", (TestAccount,), {"home": str(home), "__slots__": ()})(
        "kiln-test", "secret", "", "", Path(), True
    )


def test_a_command_gives_status_and_both_streams_byte_for_byte(tmp_path: Path) -> None:
    user = make_account(tmp_path)
    with login_on_terminal("kiln-test", "secret", str(tmp_path)) as end, SerialConsole(end, NullSink()) as serial:
        session = ConsoleSession(serial, user)
        session.log_in(timeout_seconds=PATIENT)
        result = session.run("printf 'a\\000b\\377'; echo 'it is' \"$HOME\" >&2; exit 7", timeout_seconds=PATIENT)
        assert (result.status, result.stdout) == (7, b"a\x00b\xff")
        assert result.stderr.startswith(b"it is ")
        assert session.run("cat; echo end", timeout_seconds=PATIENT).stdout == b"end\n"  # standard input is empty
        assert session.run("sleep 30", timeout_seconds=1).timed_out
        assert not list(tmp_path.glob("*.in"))[1:]


def test_kernel_messages_in_the_middle_of_an_answer_do_no_harm(tmp_path: Path) -> None:
    user = make_account(tmp_path)
    with (
        login_on_terminal("kiln-test", "secret", str(tmp_path), noise=KERNEL) as end,
        SerialConsole(end, NullSink()) as serial,
    ):
        session = ConsoleSession(serial, user)
        session.log_in(timeout_seconds=PATIENT)
        long_script = "# " + "x" * 20_000 + "\nseq 1 5000"
        result = session.run(long_script, timeout_seconds=PATIENT)
        assert result.stdout == "".join(f"{n}\n" for n in range(1, 5001)).encode()


def test_a_wrong_password_is_a_refused_login_and_not_an_endless_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_module, "PROMPT_SECONDS", 1.0)
    monkeypatch.setattr(console_module, "REPEAT_SECONDS", 0.3)
    user = make_account(tmp_path)
    with login_on_terminal("kiln-test", "other", str(tmp_path)) as end, SerialConsole(end, NullSink()) as serial:
        with pytest.raises(KilnError) as caught:
            ConsoleSession(serial, user).log_in(timeout_seconds=PATIENT)
        assert caught.value.reason == "login-refused"


@given(st.binary(max_size=2000), st.lists(st.integers(0, 30), max_size=5))
def test_lines_that_are_not_base64_are_left_out(data: bytes, places: list[int]) -> None:
    lines = base64.encodebytes(gzip.compress(data)).decode().split("\n")
    for place in places:
        lines.insert(place, "[    1.0] usb 1-1: new device")
    assert decode_lines("\n".join(lines)) == data


@given(st.text(max_size=300))
def test_a_damaged_answer_is_never_taken_for_one(text: str) -> None:
    assert decode_lines(text) is None or re.search(r"[A-Za-z0-9+/]", text)


@pytest.mark.parametrize(
    ("console", "sign"),
    [
        ("[    3.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n", "Kernel panic"),
        ("BusyBox v1.35.0 (Debian)\n\n(initramfs) ", "(initramfs)"),
        ("Boot failed: not a bootable disk\n\nNo bootable device.\n", "No bootable device"),
        ("BdsDxe: No bootable option or device was found.\n", "BdsDxe"),
        ("error: no such partition.\nEntering rescue mode...\ngrub rescue> ", "grub rescue>"),
        ("You are in emergency mode. After logging in, type\n", "You are in emergency mode"),
        ("Gave up waiting for root file system device.  Common problems:\n", "Gave up waiting"),
        ("[!!!!!!] Failed to start up manager.\nsystemd[1]: Freezing execution.\n", "Freezing execution"),
    ],
)
def test_each_way_of_not_booting_is_recognised(console: str, sign: str) -> None:
    failure = boot_failure(console)
    assert failure is not None
    assert failure.sign.startswith(sign)
    assert failure.hint


def test_the_first_sign_is_the_one_reported() -> None:
    failure = boot_failure("Gave up waiting for root device\n(initramfs) \nKernel panic - not syncing: x\n")
    assert failure is not None
    assert failure.sign == "Gave up waiting for root device"


def test_an_ordinary_boot_is_no_failure() -> None:
    console = (
        "[    0.0] Linux version 6.1\n[  OK  ] Reached target emergency-free.\nLoading initial ramdisk (initramfs)\n"
    )
    assert boot_failure(console) is None
    assert not has_login_prompt(console + "login: not here\n")
    assert has_login_prompt(console + "\nkiln-1 login: [   12.0] a kernel message")


def test_terminal_escapes_are_removed() -> None:
    coloured = "\x1b[0;32m  OK  \x1b[0m] Started \x1b]0;title\x07x\r\n\x1b[2J\x1b[01;01H\x1b(Bdone"
    assert plain(coloured) == "  OK  ] Started x\ndone"


def test_last_lines_skip_empty_ones() -> None:
    assert last_lines("a\n\n\nb\n \nc\n", 2) == "b\nc"


BOOTING = "[    0.000000] Linux version 6.1.0\n[    1.269979] IP idents hash table entries: 32768\n"


def test_a_console_is_in_the_kernel_from_its_first_line_until_a_program_speaks() -> None:
    assert in_kernel(BOOTING)
    assert not in_kernel("")
    assert not in_kernel("No bootable device.\n")
    assert not in_kernel(BOOTING + "[    2.1] Run /init as init process\n")
    assert not in_kernel(BOOTING + "[    4.0] systemd[1]: Started ssh.service.\n")
