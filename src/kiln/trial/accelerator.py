"""Whether this host's KVM can carry a guest, found out by letting one run.

`/dev/kvm` alone says little: inside some virtual machines it is there, a guest starts, and then stands still or is
interpreted so slowly that the emulator's own translation (TCG) is much faster.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kiln.errors import KilnError
from kiln.linux.files import write_atomic
from kiln.linux.process import run
from kiln.trial.machine import EMULATOR, Accelerator

PROBE_SECONDS: Final = 2.0
"""The probe takes 0.4 s under TCG and less under a KVM that works."""
ABANDON_SECONDS: Final = 10.0
"""After this the probe's process cannot be ended (it hangs in the kernel); the run goes on without it."""

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
KVM_DEVICE: Final = Path("/dev/kvm")
STATE_FILE: Final = "accelerator.json"

SUCCESS_STATUS: Final = 85
"""isa-debug-exit ends QEMU with `value << 1 | 1`; the guest writes 0x2a."""

# A boot sector in three steps; each is something that a broken KVM was seen to fail at.
PROBE_CODE: Final = bytes.fromhex(
    # real mode, interrupts: set up segments and stack, wait until the BIOS's timer handler has counted two ticks
    "fa 31c0 8ed8 8ec0 8ed0 bc007c fb 8b1e6c04 83c302 f4 a16c04 29d8 78f8 fa"
    # paging: clear three pages, map the first 2 MiB onto themselves, PAE, SSE and long mode on, jump to 64-bit code
    "bf0010 6631c0 b9000c fc 66f3ab 66c70600100320 0000 66c70600200330 0000 66c706003083000000"
    "660f0116d07c 66b800100000 0f22d8 66b820060000 0f22e0 66b9800000c0 0f32 660d00010000 0f30"
    "0f20c0 6683e0fb 660d03000080 0f22c0 66ea857c00000800"
    # 20 million rounds of multiplication and SSE, long enough for the host to preempt it; then exit with 0x2a
    "b810000000 8ed0 b9002d3101 b801000000 4869c06d4ec641 90 66480f6ec0 660fd4c8 ffc9 75eb"
    "66ba0105 b02a ee f4 ebfd 0f1f00"
    # GDT: null, 64-bit code, data; its limit and address
    "0000000000000000 00000000009a2000 0000000000920000 1700b87c0000"
)
SECTOR_BYTES: Final = 512
SECTOR_SIGNATURE: Final = b"\x55\xaa"


def choose_accelerator(state_dir: Path, *, probe: Callable[[], bool] | None = None) -> Accelerator:
    """Return `kvm` if a guest really ran under it, else `tcg`.

    The answer is kept in *state_dir* until the host's next boot. Raises KilnError(HOST, "missing-tool") without QEMU.
    """
    if not KVM_DEVICE.exists():
        return "tcg"
    boot_id = BOOT_ID.read_text("ascii").strip()
    remembered = _remembered(state_dir / STATE_FILE, boot_id)
    if remembered is not None:
        return remembered
    found: Accelerator = "kvm" if (probe or kvm_carries_a_guest)() else "tcg"
    state_dir.mkdir(parents=True, exist_ok=True)
    write_atomic(state_dir / STATE_FILE, json.dumps({"bootId": boot_id, "accelerator": found}).encode("ascii"))
    return found


def kvm_carries_a_guest() -> bool:
    """Run the probe under KVM, at most a few seconds, whatever it does."""
    answer: list[bool] = []
    failure: list[BaseException] = []

    def probe() -> None:
        try:
            answer.append(runs_probe("kvm", "host"))
        except KilnError as error:
            if error.reason == "missing-tool":
                failure.append(error)

    # A thread of its own, because a process that hangs in the kernel is not even ended by SIGKILL.
    thread = threading.Thread(target=probe, name="kvm-probe", daemon=True)
    thread.start()
    thread.join(ABANDON_SECONDS)
    if failure:
        raise failure[0]
    return answer == [True]


def runs_probe(accelerator: Accelerator, processor: str) -> bool:
    """Whether the probe ends well in time under *accelerator*. Raises KilnError(HOST) without QEMU."""
    with tempfile.TemporaryDirectory(prefix="kiln-probe-") as directory:
        sector = Path(directory) / "sector"
        sector.write_bytes(PROBE_CODE.ljust(SECTOR_BYTES - len(SECTOR_SIGNATURE), b"\0") + SECTOR_SIGNATURE)
        try:
            completed = run(probe_arguments(sector, accelerator, processor), timeout_seconds=PROBE_SECONDS, check=False)
        except KilnError as error:
            if error.reason == "timeout":
                return False
            raise
    return completed.status == SUCCESS_STATUS


def probe_arguments(sector: Path, accelerator: Accelerator, processor: str) -> tuple[str, ...]:
    """Return the command line that boots *sector* and nothing else."""
    return (
        EMULATOR,
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-machine", "pc", "-accel", accelerator, "-cpu", processor, "-m", "16"),
        *("-drive", f"file={sector},format=raw,if=ide,snapshot=on"),
        *("-device", "isa-debug-exit,iobase=0x501,iosize=1"),
    )


def _remembered(path: Path, boot_id: str) -> Accelerator | None:
    try:
        document = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(document, dict) or document.get("bootId") != boot_id:
        return None
    accelerator = document.get("accelerator")
    return accelerator if accelerator in ("kvm", "tcg") else None
