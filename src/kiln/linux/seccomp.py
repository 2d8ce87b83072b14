"""The filter of system calls for programs that build: everything is allowed but what no build needs.

A stage is root in the host's user namespace and has CAP_SYS_ADMIN; namespaces and capabilities alone leave it ways to
the host's kernel, clock, modules, disks and other processes. Each refusal has the error that lets programs go on:
ENOSYS where they ask whether the kernel has a feature (and then do without), EPERM where they expect that it is not for
everybody, EAFNOSUPPORT for families of sockets.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Collection, Sequence
from functools import cache
from typing import Final

from kiln.linux.bpf import Instruction, assemble, at_least, equal, give, load, mask
from kiln.linux.syscalls import ARCHITECTURES, X32_BIT, Architecture

# include/uapi/linux/seccomp.h, prctl.h
SECCOMP_RET_ALLOW: Final = 0x7FFF0000
SECCOMP_RET_ERRNO: Final = 0x00050000
SECCOMP_MODE_FILTER: Final = 2
PR_SET_SECCOMP: Final = 22
PR_SET_NO_NEW_PRIVS: Final = 38
# Offsets in struct seccomp_data. Both architectures are little-endian, and the kernel looks at no more than the lower
# half of the arguments below.
_NUMBER: Final = 0
_ARCHITECTURE: Final = 4
_ARGUMENTS: Final = 16
_ARGUMENT_BYTES: Final = 8

NOT_PERMITTED: Final = (
    # another kernel, or other code in this one
    *("kexec_load", "kexec_file_load", "reboot"),
    *("init_module", "finit_module", "delete_module", "create_module", "query_module", "get_kernel_syms"),
    *("bpf", "perf_event_open", "lookup_dcookie", "syslog", "iopl", "ioperm", "modify_ldt", "uselib"),
    # what belongs to the whole host
    *("settimeofday", "clock_settime", "swapon", "swapoff", "acct", "quotactl", "quotactl_fd"),
    # files of the host by inode number, or whatever anybody opens on a file system, past every mount
    *("open_by_handle_at", "fanotify_init"),
)
TRACING: Final = ("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd")
"""Not permitted without CAP_SYS_PTRACE."""
MISSING: Final = (
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "userfaultfd"),
    # Keyrings are not namespaced. cryptsetup and kinit keep their keys themselves where there are none.
    *("add_key", "request_key", "keyctl"),
    *("nfsservctl", "_sysctl"),
)
FAMILIES: Final = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK; the others (AF_VSOCK, AF_ALG, AF_PACKET, ...) reach past the network
namespace or are code of the kernel that no build needs."""
PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX and PER_LINUX32 with and without UNAME26, and the question which one it is. The others weaken a program."""
TERMINAL_REQUESTS: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX put text into the terminal of whoever started the build."""
CHARACTER_DEVICES: Final = (
    *((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (1, 11)),  # null, zero, full, random, urandom, kmsg
    *((5, 0), (5, 1), (5, 2), (10, 229)),  # tty, console, ptmx, fuse
)
"""Nodes that trees and initramfs images have. Any other is a way to the host; (0, 0) would be a mark of an overlay.
Nodes of block devices are made by the engine and its services, outside of the sandbox."""


def stage_filter(capabilities: Collection[str] = (), *, architecture: str | None = None) -> bytes:
    """Return the filter for a program with these capabilities, as an array of `struct sock_filter`.

    *architecture* is a name as of uname(2), by default this machine's; empty bytes for one that is not known here.
    """
    target = ARCHITECTURES.get(architecture or os.uname().machine)
    return b"" if target is None else _assembled(target.name, "CAP_SYS_PTRACE" in capabilities)


@cache
def _assembled(name: str, tracing: bool) -> bytes:
    return assemble(_program(ARCHITECTURES[name], tracing=tracing))


def install(program: bytes) -> None:
    """Put the calling thread, and what it starts, under *program* for ever. Raises OSError."""

    class Program(ctypes.Structure):
        """struct sock_fprog."""

        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    instructions = ctypes.create_string_buffer(program, len(program))
    described = Program(len(program) // 8, ctypes.addressof(instructions))
    zero = ctypes.c_ulong(0)
    for arguments in (
        (PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero),
        (PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), ctypes.byref(described), zero, zero),
    ):
        if libc.prctl(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "seccomp")


def _program(target: Architecture, *, tracing: bool) -> list[Instruction]:
    foreign = _refuse(errno.ENOSYS)
    program = [load(_ARCHITECTURE), equal(target.audit, then=1), foreign, load(_NUMBER)]
    if target.x32:
        program += [at_least(X32_BIT, otherwise=1), foreign]
    blocks: list[tuple[str, Sequence[Instruction]]] = [
        *((name, [_refuse(errno.EPERM)]) for name in NOT_PERMITTED),
        *((name, [_refuse(errno.EPERM)]) for name in TRACING if not tracing),
        *((name, [_refuse(errno.ENOSYS)]) for name in MISSING),
        ("socket", [_argument(0), *_allow_only(FAMILIES, errno.EAFNOSUPPORT)]),
        ("personality", [_argument(0), *_allow_only(PERSONALITIES, errno.EPERM)]),
        ("ioctl", [_argument(1), *_refuse_only(TERMINAL_REQUESTS, errno.EPERM)]),
        ("mknod", _nodes(mode=1)),
        ("mknodat", _nodes(mode=2)),
    ]
    for name, block in blocks:
        number = target.numbers.get(name)
        if number is not None:
            program += [equal(number, otherwise=len(block)), *block]  # a block always ends the program
    return [*program, give(SECCOMP_RET_ALLOW)]


def _nodes(*, mode: int) -> list[Instruction]:
    """Look at the argument *mode* and the one after it, the device's number as the kernel's `new_decode_dev` has it."""
    devices = [(minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12 for major, minor in CHARACTER_DEVICES]
    return [
        _argument(mode),
        mask(0o170000),
        equal(stat.S_IFBLK, otherwise=1),
        _refuse(errno.EPERM),
        equal(stat.S_IFCHR, then=1),
        give(SECCOMP_RET_ALLOW),
        _argument(mode + 1),
        *_allow_only(devices, errno.EPERM),
    ]


def _allow_only(values: Sequence[int], number: int) -> list[Instruction]:
    tests = [equal(value, then=len(values) - index) for index, value in enumerate(values)]
    return [*tests, _refuse(number), give(SECCOMP_RET_ALLOW)]


def _refuse_only(values: Sequence[int], number: int) -> list[Instruction]:
    tests = [equal(value, then=len(values) - index) for index, value in enumerate(values)]
    return [*tests, give(SECCOMP_RET_ALLOW), _refuse(number)]


def _refuse(number: int) -> Instruction:
    return give(SECCOMP_RET_ERRNO | number)


def _argument(index: int) -> Instruction:
    return load(_ARGUMENTS + index * _ARGUMENT_BYTES)
