"""Numbers of the system calls that a filter speaks of (Linux 6.18: arch/x86/entry/syscalls, include/uapi/asm-generic).

A call that an architecture does not have is missing in its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

X32_BIT: Final = 0x40000000
"""Calls of the x32 ABI have the architecture of x86_64 and this bit in their number."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """*audit* is the architecture as seccomp reports it (include/uapi/linux/audit.h); *x32* whether it has that ABI."""

    name: str
    audit: int
    x32: bool
    numbers: Mapping[str, int]


# Since Linux 5.1, new calls have the same number everywhere.
_COMMON: Final = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "pidfd_getfd": 438,
    "quotactl_fd": 443,
}
X86_64: Final = Architecture(
    "x86_64",
    0xC000003E,
    True,
    {
        **_COMMON,
        "ioctl": 16,
        "socket": 41,
        "ptrace": 101,
        "syslog": 103,
        "mknod": 133,
        "uselib": 134,
        "personality": 135,
        "modify_ldt": 154,
        "_sysctl": 156,
        "acct": 163,
        "settimeofday": 164,
        "swapon": 167,
        "swapoff": 168,
        "reboot": 169,
        "iopl": 172,
        "ioperm": 173,
        "create_module": 174,
        "init_module": 175,
        "delete_module": 176,
        "get_kernel_syms": 177,
        "query_module": 178,
        "quotactl": 179,
        "nfsservctl": 180,
        "lookup_dcookie": 212,
        "clock_settime": 227,
        "kexec_load": 246,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "mknodat": 259,
        "perf_event_open": 298,
        "fanotify_init": 300,
        "open_by_handle_at": 304,
        "process_vm_readv": 310,
        "process_vm_writev": 311,
        "finit_module": 313,
        "kexec_file_load": 320,
        "bpf": 321,
        "userfaultfd": 323,
    },
)
AARCH64: Final = Architecture(
    "aarch64",
    0xC00000B7,
    False,
    {
        **_COMMON,
        "lookup_dcookie": 18,
        "ioctl": 29,
        "mknodat": 33,
        "nfsservctl": 42,
        "quotactl": 60,
        "acct": 89,
        "personality": 92,
        "kexec_load": 104,
        "init_module": 105,
        "delete_module": 106,
        "clock_settime": 112,
        "syslog": 116,
        "ptrace": 117,
        "reboot": 142,
        "settimeofday": 170,
        "socket": 198,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "swapon": 224,
        "swapoff": 225,
        "perf_event_open": 241,
        "fanotify_init": 262,
        "open_by_handle_at": 265,
        "process_vm_readv": 270,
        "process_vm_writev": 271,
        "finit_module": 273,
        "bpf": 280,
        "userfaultfd": 282,
        "kexec_file_load": 294,
    },
)
ARCHITECTURES: Final[Mapping[str, Architecture]] = {item.name: item for item in (X86_64, AARCH64)}
"""By the name that uname(2) gives."""
