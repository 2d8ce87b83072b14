"""Running an image for a person: the serial console on the terminal, ports on the loopback."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Notice, Sink
from kiln.linux.process import run, tail
from kiln.trial.accelerator import choose_accelerator
from kiln.trial.account import create_account, write_credentials
from kiln.trial.machine import Accelerator, Firmware, Forward, MachineSpec
from kiln.trial.qemu import create_overlay, default_cpus, default_memory_mib, prepare_firmware, running_machine

DEFAULT_FORWARDS: Final = (Forward(22),)
FIRMWARE_SUFFIX: Final = ".uefi-variables"


def run_interactively(
    image: Path,
    *,
    firmware: Firmware,
    state_dir: Path,
    sink: Sink,
    forwards: Sequence[Forward] = DEFAULT_FORWARDS,
    persist: Path | None = None,
    login: bool = False,
    has_sudo: bool = True,
    display: bool = False,
    memory_mib: int | None = None,
    accelerator: Accelerator | None = None,
) -> int:
    """Boot *image* until its user switches it off, and return QEMU's exit status (0: it was switched off or quit).

    The image is never written. Writes go to an overlay that is removed at the end, or into the overlay file *persist*,
    which is made at first and used again. The serial port is on the terminal (Ctrl-A X quits). *login* makes an account
    for this run and tells its name and password as a Notice; Notices also say where the ports of *forwards* answer.

    Raises KilnError: (HOST, "missing-tool"), (TRIAL, "no-image"), (TRIAL, "wrong-overlay") when *persist* belongs to
    another image, (TRIAL, "emulator-failed") for instance when a port is taken.
    """
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kiln-run-")))
        overlay = work / "overlay.qcow2" if persist is None else persist
        if persist is None or not persist.exists():
            create_overlay(image, overlay)
        else:
            _check_overlay(image, persist)
        firmware_home = work
        if persist is not None and firmware == "uefi":
            firmware_home = persist.with_name(persist.name + FIRMWARE_SUFFIX)
            firmware_home.mkdir(exist_ok=True)
        code, variables = prepare_firmware(firmware, firmware_home)
        credentials = None
        if login:
            account = create_account(work, superuser=not has_sudo)
            credentials = write_credentials(account, work)
            sink.emit(Notice("info", f"log in as {account.name}, password {account.password}"))
            sink.emit(Notice("info", f"or by SSH with -i {account.private_key_file}, while the machine runs"))
        spec = MachineSpec(
            disk=overlay,
            disk_format="qcow2",
            firmware=firmware,
            accelerator=accelerator or choose_accelerator(state_dir),
            memory_mib=memory_mib or default_memory_mib(),
            cpus=default_cpus(),
            forwards=tuple(forwards),
            isolated=False,
            keep_writes=persist is not None,
            follow_restart=True,
            display=display,
            credentials=credentials,
            firmware_code=code,
            firmware_variables=variables,
        )
        error_log = work / "qemu.log"
        with running_machine(spec, error_log=error_log, sink=sink, on_terminal=True) as machine:
            for guest_port, host_port in sorted(machine.ports.items()):
                sink.emit(Notice("info", f"port {guest_port} of the machine answers on 127.0.0.1:{host_port}"))
            try:
                status = machine.process.wait()
            except KeyboardInterrupt:
                # With --persist the guest's file systems are worth an orderly end.
                machine.power_down() if persist is not None else machine.quit()
                raise
        if status != 0:
            sink.emit(Notice("warning", f"QEMU ended with status {status}: {tail(error_log.read_bytes())}"))
        return status


def _check_overlay(image: Path, overlay: Path) -> None:
    """An overlay over another image would show a mixture of both file systems."""
    described = run(["qemu-img", "info", "-U", "--output=json", str(overlay)], check=False)
    backing = _backing_file(described.stdout)
    if backing is None or Path(backing).resolve() != image.resolve():
        raise KilnError(
            Domain.TRIAL,
            "wrong-overlay",
            f"{overlay} does not belong to {image}",
            detail=f"it was made over {backing}" if backing else "it is not an overlay",
            hint="give another file, or remove this one to begin afresh",
            exit_status=ExitStatus.REFUSED,
        )


def _backing_file(description: bytes) -> str | None:
    try:
        document = json.loads(description)
    except ValueError:
        return None
    backing = document.get("full-backing-filename") if isinstance(document, dict) else None
    return backing if isinstance(backing, str) else None
