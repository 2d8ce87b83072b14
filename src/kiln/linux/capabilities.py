"""Which capabilities this process may hand on, so that a sandbox asks for nothing that it cannot get.

bubblewrap 0.8 leaves *all* capabilities in place when one that it was asked to keep is missing from the caller's
permitted set. Whoever starts a sandbox therefore intersects what it wants with `permitted()` first.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

# Numbers of include/uapi/linux/capability.h; the position is the bit in /proc/<pid>/status.
NAMES: Final = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)


def decode(mask: int) -> frozenset[str]:
    """Return the names of the capabilities in a bit mask; bits without a name are left out."""
    return frozenset(name for bit, name in enumerate(NAMES) if mask >> bit & 1)


def encode(names: Iterable[str]) -> int:
    """Return the bit mask of capabilities. Raises ValueError for a name that there is not."""
    return sum(1 << NAMES.index(name) for name in set(names))


def read_sets(status: Path = Path("/proc/thread-self/status")) -> dict[str, frozenset[str]]:
    """Return the sets `CapInh`, `CapPrm`, `CapEff`, `CapBnd` and `CapAmb` of a process. Raises OSError."""
    sets = {}
    for line in status.read_text(encoding="ascii", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.startswith("Cap"):
            sets[key] = decode(int(value, 16))
    return sets


def permitted() -> frozenset[str]:
    """Return the capabilities that a child of this thread can be given: permitted and in the bounding set."""
    sets = read_sets()
    return sets["CapPrm"] & sets["CapBnd"]
