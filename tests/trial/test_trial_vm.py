"""Real virtual machines: images that do not boot, images that speak and go on, and a whole image where one is given."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import select
import shutil
import time
from pathlib import Path

import pytest
from guest_stand_in import wish

from kiln.errors import KilnError
from kiln.events.model import CollectingSink, Notice, NullSink, Output, Progress
from kiln.linux.process import SEARCH_PATH
from kiln.trial import boot as boot_module
from kiln.trial.interactive import run_interactively
from kiln.trial.machine import MachineSpec
from kiln.trial.qemu import create_overlay, running_machine
from kiln.trial.run import TrialLimits, run_trial

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(
        shutil.which("qemu-system-x86_64", path=f"{os.environ.get('PATH', '')}:{SEARCH_PATH}") is None, reason="no QEMU"
    ),
]

IMAGE = os.environ.get("KILN_TEST_IMAGE", "")


def speaking_sector(text: str) -> bytes:
    """A boot sector that writes *text* to the first serial port and then waits for ever."""
    code = bytes.fromhex(
        "31c0 8ed8"  # xor ax,ax; mov ds,ax
        "be187c"  # mov si,text
        "baf803"  # mov dx,0x3f8
        "ac 84c0 7403 ee ebf8"  # next: lodsb; test al,al; jz done; out dx,al; jmp next
        "f4 ebfd"  # done: hlt; jmp done
    ).ljust(0x18, b"\x90")
    return (code + text.encode("ascii") + b"\0").ljust(510, b"\0") + b"\x55\xaa"


def boot(sector: bytes, tmp_path: Path, sink=None, **options) -> tuple[KilnError, Path, Path]:
    image, evidence = tmp_path / "with, comma.img", tmp_path / "evidence"
    image.write_bytes(sector.ljust(1024 * 1024, b"\0"))
    before = hashlib.sha256(image.read_bytes()).hexdigest()
    with pytest.raises(KilnError) as caught:
        run_trial(
            image,
            f"sha256:{before}",
            [wish("ssh_answers")],
            firmware="bios",
            evidence_dir=evidence,
            state_dir=tmp_path / "state",
            sink=sink or NullSink(),
            accelerator="tcg",
            **{"has_ssh": True, **options},
        )
    assert hashlib.sha256(image.read_bytes()).hexdigest() == before  # never written
    assert not (evidence / ".machine").exists()
    return caught.value, evidence, image


def test_an_image_without_a_boot_loader_fails_with_the_log_as_evidence(tmp_path: Path) -> None:
    error, evidence, _ = boot(b"", tmp_path)
    assert error.reason == "boot-failed"
    assert "nothing to boot" in error.message
    assert "No bootable device" in error.detail
    assert "No bootable device" in (evidence / "serial.log").read_text(errors="replace")


def test_a_kernel_panic_ends_the_wait(tmp_path: Path) -> None:
    sink = CollectingSink()
    error, _, _ = boot(speaking_sector("[    1.0] Kernel panic - not syncing: no init found\r\n"), tmp_path, sink)
    assert error.reason == "boot-failed"
    assert "panicked" in error.message
    assert any(isinstance(event, Output) and event.source == "serial" for event in sink.events)


def test_a_machine_that_never_offers_a_login_is_given_up(tmp_path: Path) -> None:
    sink = CollectingSink()
    error, _, _ = boot(speaking_sector("still booting\r\n"), tmp_path, sink, limits=TrialLimits(boot_seconds=3))
    assert error.reason == "boot-timeout"
    assert "still booting" in error.detail
    assert any(isinstance(event, Progress) and event.unit == "seconds" for event in sink.events)


def test_a_kernel_that_stands_still_is_started_once_more_and_then_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot_module, "STILL_SECONDS", 1.0)
    sink = CollectingSink()
    error, _, _ = boot(speaking_sector("Linux version 6.1.0\r\n[    1.26] IP idents hash\r\n"), tmp_path, sink)
    assert error.reason == "boot-stalled"
    assert "IP idents" in error.detail
    assert [event.level for event in sink.events if isinstance(event, Notice)] == ["warning"]


def test_a_prompt_without_a_login_behind_it_is_a_refused_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kiln.trial import console

    monkeypatch.setattr(console, "PROMPT_SECONDS", 0.5)
    limits = TrialLimits(boot_seconds=4)
    error, _, _ = boot(speaking_sector("\r\nkiln login: "), tmp_path, has_ssh=False, limits=limits)
    assert error.reason == "login-refused"


def test_an_interrupt_ends_qemu_and_leaves_nothing(tmp_path: Path) -> None:
    image, overlay = tmp_path / "image", tmp_path / "overlay"
    image.write_bytes(speaking_sector("hello\r\n").ljust(1024 * 1024, b"\0"))
    create_overlay(image, overlay)
    spec = MachineSpec(overlay, "qcow2", "bios", "tcg", 128, 1)
    with (
        pytest.raises(KeyboardInterrupt),
        running_machine(spec, error_log=tmp_path / "log", sink=NullSink()) as machine,
    ):
        process = machine.process
        assert machine.serial is not None
        assert machine.serial.wait_for(re.compile("hello"), since=0, timeout_seconds=600) is not None
        raise KeyboardInterrupt
    assert process.poll() is not None


def test_what_qemu_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    spec = MachineSpec(tmp_path / "missing.qcow2", "qcow2", "bios", "tcg", 128, 1)
    with pytest.raises(KilnError) as caught, running_machine(spec, error_log=tmp_path / "log", sink=NullSink()):
        pass
    assert caught.value.reason == "emulator-failed"
    assert "missing.qcow2" in caught.value.detail


def test_an_overlay_that_belongs_to_another_image_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"\0" * 1024 * 1024)
    create_overlay(tmp_path / "one", tmp_path / "overlay")
    with pytest.raises(KilnError) as caught:
        run_interactively(
            tmp_path / "two", firmware="bios", state_dir=tmp_path, sink=NullSink(), persist=tmp_path / "overlay"
        )
    assert caught.value.reason == "wrong-overlay"


def test_a_person_gets_the_serial_port_on_the_terminal_and_leaves_with_ctrl_a_x(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(speaking_sector("hello from the guest\r\n").ljust(1024 * 1024, b"\0"))
    pid, terminal = pty.fork()
    if pid == 0:
        status = run_interactively(image, firmware="bios", state_dir=tmp_path, sink=NullSink(), accelerator="tcg")
        os._exit(status + 40)
    output, asked, deadline = b"", False, time.monotonic() + 600
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                output += os.read(terminal, 4096)
            except OSError:  # the other side is closed
                break
        if not asked and b"hello from the guest" in output:
            asked = True
            os.write(terminal, b"\x01x")
    os.close(terminal)
    assert asked
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 40


@pytest.mark.full
@pytest.mark.skipif(not IMAGE, reason="KILN_TEST_IMAGE names no image with an SSH server and sudo")
@pytest.mark.parametrize(("has_ssh", "has_sudo"), [(True, True), (False, True), (False, False)])
def test_a_whole_image_over_ssh_and_over_its_console(tmp_path: Path, has_ssh: bool, has_sudo: bool) -> None:
    report = run_trial(
        Path(IMAGE),
        "sha256:" + "0" * 64,
        [
            wish("ssh_answers"),
            wish("login_prompt"),
            wish("user_exists", name="root"),
            wish("command", run="id -u", stdout="^0$"),
            wish("sysctl", key="kernel.ostype", value="Linux"),
            wish("file_exists", path="/etc/shadow", owner="root"),
        ],
        has_ssh=has_ssh,
        has_sudo=has_sudo,
        firmware="bios",
        evidence_dir=tmp_path / "evidence",
        state_dir=tmp_path / "state",
        sink=NullSink(),
    )
    assert [check.verdict for check in report.checks] == ["pass"] * 6
    assert (tmp_path / "evidence" / "report.xml").exists()
