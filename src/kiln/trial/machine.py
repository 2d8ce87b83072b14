"""A virtual machine as a value, and the QEMU command line that it means. Nothing here starts anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Firmware = Literal["bios", "uefi"]
Accelerator = Literal["kvm", "tcg"]
DiskFormat = Literal["qcow2", "raw"]

EMULATOR: Final = "qemu-system-x86_64"
QCOW2_MAGIC: Final = b"QFI\xfb"  # QEMU, docs/interop/qcow2.txt, "Header"

TCG_PROCESSOR: Final = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+lahf-lm,-svm"
"""x86-64-v2 and nothing more, 15 % less work in a boot than `max`: AVX state makes each context switch dearer, SMAP
ends a translated block at each copy from user space, and `erms` makes the kernel copy byte by byte. Taking single
features off `max` is no way: a kernel that finds AVX without XSAVE crashes in its own crypto test."""
TCG_TRANSLATION_CACHE_MIB: Final = 1024
"""The default (an eighth of the guest's memory, at most 1 GiB) is thrown away and filled again during a boot."""


@dataclass(frozen=True, slots=True)
class Forward:
    """A TCP port of the guest that answers on the host's loopback; *host_port* 0 lets the kernel choose a free one."""

    guest_port: int
    host_port: int = 0


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """The credential `tmpfiles.extra` for the guest's systemd, ready to be read by QEMU.

    *smbios* holds an SMBIOS type 11 string (read by systemd >= 252), *fw_cfg* the bare content (>= 251). Either is
    enough; a kernel may lack the driver of the other.
    """

    smbios: Path
    fw_cfg: Path


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """Everything that QEMU is told about one run.

    *disk* is what the guest writes to; for a test it is an overlay, so that the image below it is opened read-only.
    """

    disk: Path
    disk_format: DiskFormat
    firmware: Firmware
    accelerator: Accelerator
    memory_mib: int
    cpus: int
    forwards: tuple[Forward, ...] = ()
    isolated: bool = True
    """The guest reaches neither the host nor any network; forwarded ports work all the same."""
    keep_writes: bool = False
    """False: the disk is thrown away afterwards, so flushes of the guest need not reach the host's disk."""
    follow_restart: bool = False
    """False: QEMU ends when the guest restarts, so that a panic with `panic=` does not boot for ever."""
    display: bool = False
    """Give the guest a graphics card (nobody looks at it); desktops need one, a server boots faster without."""
    credentials: CredentialFiles | None = None
    firmware_code: Path | None = None
    firmware_variables: Path | None = None
    serial_log: Path | None = None


def disk_format_of(header: bytes) -> DiskFormat:
    """Return the format of a disk image from its first bytes."""
    return "qcow2" if header.startswith(QCOW2_MAGIC) else "raw"


def qemu_arguments(spec: MachineSpec, *, serial_fd: int | None, monitor_fd: int) -> tuple[str, ...]:
    """Return the command line for *spec*.

    The serial port is connected to the socket *serial_fd*, or to the terminal if that is None (Ctrl-A X quits, Ctrl-A
    H helps). *monitor_fd* is a socket that speaks QMP.
    """
    return (
        EMULATOR,
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *(() if spec.follow_restart else ("-no-reboot",)),
        *_processor(spec),
        *_firmware(spec),
        *_disk(spec),
        *_network(spec),
        *("-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"),
        *(("-device", "VGA") if spec.display else ()),
        *_credentials(spec),
        *("-chardev", f"socket,id=monitor,fd={monitor_fd}", "-mon", "chardev=monitor,mode=control"),
        *_serial(spec, serial_fd),
    )


def _processor(spec: MachineSpec) -> tuple[str, ...]:
    # graphics=off makes SeaBIOS, and GRUB through it, speak on the serial port. HPET: a guest under TCG reads the
    # slow device instead of its own time stamp counter.
    machine = "q35,graphics=off,hpet=off"
    if spec.firmware == "uefi":
        machine += ",pflash0=firmware-code,pflash1=firmware-variables"
    accelerator = "kvm" if spec.accelerator == "kvm" else f"tcg,thread=multi,tb-size={TCG_TRANSLATION_CACHE_MIB}"
    processor = "host" if spec.accelerator == "kvm" else TCG_PROCESSOR
    return (
        *("-machine", machine, "-accel", accelerator, "-cpu", processor),
        *("-smp", str(spec.cpus), "-m", str(spec.memory_mib)),
    )


def _firmware(spec: MachineSpec) -> tuple[str, ...]:
    if spec.firmware == "bios":
        return ()
    if spec.firmware_code is None or spec.firmware_variables is None:
        raise ValueError("a UEFI machine needs the firmware's code and variables")
    return (
        *("-blockdev", _file_node("firmware-code", "raw", spec.firmware_code, read_only=True)),
        *("-blockdev", _file_node("firmware-variables", "raw", spec.firmware_variables)),
    )


def _disk(spec: MachineSpec) -> tuple[str, ...]:
    cache = None if spec.keep_writes else {"direct": False, "no-flush": True}
    return (
        *("-blockdev", _file_node("disk", spec.disk_format, spec.disk, cache=cache)),
        # werror=report: the default stops the guest without a word when the host's disk is full.
        *("-device", "virtio-blk-pci,drive=disk,bootindex=0,werror=report,rerror=report"),
    )


def _network(spec: MachineSpec) -> tuple[str, ...]:
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{f.host_port}-:{f.guest_port}" for f in spec.forwards)
    return (
        *("-netdev", f"user,id=network,ipv6=off,restrict={'on' if spec.isolated else 'off'}{forwards}"),
        *("-device", "virtio-net-pci,netdev=network,romfile="),
    )


def _credentials(spec: MachineSpec) -> tuple[str, ...]:
    if spec.credentials is None:
        return ()
    smbios, fw_cfg = (_escaped(path) for path in (spec.credentials.smbios, spec.credentials.fw_cfg))
    return (
        *("-smbios", f"type=11,path={smbios}"),
        *("-fw_cfg", f"name=opt/io.systemd.credentials/tmpfiles.extra,file={fw_cfg}"),
    )


def _serial(spec: MachineSpec, serial_fd: int | None) -> tuple[str, ...]:
    log = "" if spec.serial_log is None else f",logfile={_escaped(spec.serial_log)}"
    if serial_fd is None:
        return (
            "-chardev",
            f"stdio,id=serial,mux=on,signal=off{log}",
            "-serial",
            "chardev:serial",
            "-mon",
            "chardev=serial",
        )
    return ("-chardev", f"socket,id=serial,fd={serial_fd}{log}", "-serial", "chardev:serial")


def _file_node(
    name: str, driver: str, path: Path, *, read_only: bool = False, cache: dict[str, bool] | None = None
) -> str:
    """Return a block node as JSON, which needs no escape for a comma in *path*."""
    file: dict[str, object] = {"driver": "file", "filename": str(path)}
    node: dict[str, object] = {"node-name": name, "driver": driver, "read-only": read_only, "file": file}
    if cache is not None:
        node["cache"] = file["cache"] = cache
    if driver == "qcow2" or not read_only:
        node["discard"] = "unmap"
    return json.dumps(node, separators=(",", ":"))


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")  # QEMU, "Standard options": a literal comma is doubled
