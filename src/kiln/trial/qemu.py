"""Starting QEMU from a MachineSpec, and ending it whatever happens."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kiln.errors import Domain, ExitStatus, KilnError, disk_full
from kiln.events.model import Sink
from kiln.linux.process import run, spawn, tail
from kiln.trial.machine import DiskFormat, Firmware, MachineSpec, disk_format_of, qemu_arguments
from kiln.trial.qmp import Monitor
from kiln.trial.serial import SerialConsole

DEFAULT_MEMORY_MIB: Final = 2048
DEFAULT_CPUS: Final = 2
MEMORY_SHARE: Final = 2
"""The guest gets at most this fraction (a half) of what the host has available."""
MINIMUM_MEMORY_MIB: Final = 512
OVERLAY_FREE_BYTES: Final = 512 * 1024 * 1024
"""A first boot of a server writes some tens of megabytes into its overlay."""
QUIT_SECONDS: Final = 5.0
POWER_DOWN_SECONDS: Final = 90.0
"""systemd's own limit for a unit that does not stop (DefaultTimeoutStopSec=)."""

# Code and a template of the variables, in the order of preference; 4M is what Debian 12 and later carry.
_UEFI_FILES: Final = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
)


@dataclass(frozen=True, slots=True)
class RunningMachine:
    """A started QEMU. *serial* is None when the port is on the terminal. *ports*: guest port -> host port."""

    process: subprocess.Popen[bytes]
    monitor: Monitor
    serial: SerialConsole | None
    ports: dict[int, int]
    error_log: Path

    def ended(self) -> bool:
        """Whether QEMU has ended, which also means that the guest restarted or switched itself off."""
        return self.process.poll() is not None

    def quit(self) -> None:
        """End QEMU at once, as pulling the plug does; for disks that are thrown away."""
        with suppress(KilnError, subprocess.TimeoutExpired):
            self.monitor.execute("quit")
            self.process.wait(QUIT_SECONDS)

    def power_down(self) -> None:
        """Press the power button and wait until the guest has shut down, then end QEMU in any case."""
        with suppress(KilnError, subprocess.TimeoutExpired):
            self.monitor.execute("system_powerdown")
            self.process.wait(POWER_DOWN_SECONDS)
            return
        self.quit()


@contextmanager
def running_machine(
    spec: MachineSpec, *, error_log: Path, sink: Sink, on_terminal: bool = False
) -> Iterator[RunningMachine]:
    """Start QEMU for *spec*; its process group is ended when the block is left, however that happens.

    *error_log* gets what QEMU itself says. Raises KilnError(HOST, "missing-tool") and (TRIAL, "emulator-failed").
    """
    with ExitStack() as stack:
        monitor_end, monitor_fd = _socket_pair(stack)
        serial_end, serial_fd = (None, None) if on_terminal else _socket_pair(stack)
        stderr = stack.enter_context(error_log.open("wb"))
        descriptors = [fd.fileno() for fd in (monitor_fd, serial_fd) if fd is not None]
        arguments = qemu_arguments(
            spec, serial_fd=None if serial_fd is None else serial_fd.fileno(), monitor_fd=monitor_fd.fileno()
        )
        process = stack.enter_context(
            spawn(
                # The kernel ends QEMU when this process dies, even by SIGKILL.
                ("setpriv", "--pdeathsig", "KILL", "--", *arguments),
                stdin=None if on_terminal else subprocess.DEVNULL,
                stdout=None if on_terminal else subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=descriptors,
                new_session=not on_terminal,
            )
        )
        monitor_fd.close()
        serial = None
        if serial_end is not None and serial_fd is not None:
            serial_fd.close()
            serial = stack.enter_context(SerialConsole(serial_end, sink))
        monitor = Monitor(monitor_end)
        try:
            monitor.greet()
            ports = monitor.forwarded_ports()
        except KilnError as error:
            error.detail = tail(error_log.read_bytes()) or error.detail
            raise
        yield RunningMachine(process, monitor, serial, ports, error_log)


def image_format(image: Path) -> DiskFormat:
    """Return the format of *image*. Raises KilnError(TRIAL, "no-image") if it cannot be read."""
    try:
        with image.open("rb") as file:
            return disk_format_of(file.read(4))
    except OSError as error:
        raise KilnError(
            Domain.TRIAL,
            "no-image",
            f"cannot read the image {image}: {error.strerror}",
            exit_status=ExitStatus.NOT_FOUND,
        ) from error


def create_overlay(image: Path, overlay: Path) -> None:
    """Create a qcow2 *overlay* that holds all writes, so that QEMU opens *image* read-only.

    Raises KilnError(HOST, "missing-tool"), (TRIAL, "no-image"), (TRIAL, "no-space").
    """
    backing_format = image_format(image)
    if shutil.disk_usage(overlay.parent).free < OVERLAY_FREE_BYTES:
        raise disk_full(overlay.parent, Domain.TRIAL)
    run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image.resolve()), "-F", backing_format, str(overlay)],
        check=True,
    )


def prepare_firmware(firmware: Firmware, directory: Path) -> tuple[Path | None, Path | None]:
    """Return the UEFI code and a private copy of its variables in *directory*; two times None for BIOS.

    Raises KilnError(HOST, "missing-tool").
    """
    if firmware == "bios":
        return None, None
    for code, variables in _UEFI_FILES:
        if Path(code).exists() and Path(variables).exists():
            copy = directory / "uefi-variables.fd"
            if not copy.exists():
                shutil.copyfile(variables, copy)
            return Path(code), copy
    raise KilnError(
        Domain.HOST,
        "missing-tool",
        "the UEFI firmware for virtual machines (OVMF) is not on this host",
        hint="apt-get install ovmf, or test with --firmware bios",
        exit_status=ExitStatus.INFRASTRUCTURE,
    )


def default_memory_mib() -> int:
    """Return how much memory a guest gets here: 2 GiB, or half of what is available if that is less."""
    available_mib = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024**2
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            available_mib = int(line.split()[1]) // 1024
    return max(MINIMUM_MEMORY_MIB, min(DEFAULT_MEMORY_MIB, available_mib // MEMORY_SHARE))


def default_cpus() -> int:
    """Return how many processors a guest gets here."""
    return min(DEFAULT_CPUS, os.cpu_count() or 1)


def _socket_pair(stack: ExitStack) -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    stack.callback(ours.close)
    stack.callback(theirs.close)
    return ours, theirs
