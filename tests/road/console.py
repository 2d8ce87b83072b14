"""Booting what a build put out, and reading its serial console."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

OVMF = Path("/usr/share/OVMF")
ENDS = re.compile(
    r"Kernel panic|No bootable device|Security Violation|Access Denied|device-mapper: verity: .* corrupted"
)


def uefi(directory: Path, *, code: str = "OVMF_CODE_4M.fd", variables: Path | None = None) -> list[str]:
    """Return QEMU's arguments for UEFI with variables of its own."""
    own = directory / "variables.fd"
    shutil.copyfile(variables or OVMF / "OVMF_VARS_4M.fd", own)
    return [
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={OVMF / code}"),
        *("-drive", f"if=pflash,format=raw,unit=1,file={own}"),
    ]


def disk(path: Path) -> list[str]:
    """Return QEMU's arguments for a disk that is not written."""
    kind = "qcow2" if path.suffix == ".qcow2" else "raw"
    return ["-drive", f"if=virtio,format={kind},snapshot=on,file={path}"]


def boot(arguments: Sequence[str], directory: Path, until: str = "login:", *, machine: str = "q35") -> str:
    """Boot a machine and return what its console said, up to *until* or to something that ends a boot."""
    log = directory / "serial.log"
    log.write_bytes(b"")
    command = ["qemu-system-x86_64", "-M", machine, "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024"]
    command += ["-display", "none", "-monitor", "none", "-net", "none", "-no-reboot", "-serial", f"file:{log}"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            while process.poll() is None:
                text = log.read_text(errors="replace")
                if until in text or ENDS.search(text):
                    break
                time.sleep(0.5)
        finally:
            process.kill()
    return log.read_text(errors="replace")
