"""System calls that Python does not have, or has at a price: every page that a fork touches is a page to copy."""

from __future__ import annotations

import ctypes
import os
from typing import Any

# include/uapi/linux/{sched,mount,prctl,capability,seccomp,close_range}.h, asm-generic/unistd.h
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2
MOVE_MOUNT_F_EMPTY_PATH = 0x4
AT_FDCWD = -100
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_IS_SET = 1
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
SECCOMP_MODE_FILTER = 2
CLONE_INTO_CGROUP = 0x200000000
SIGCHLD = 17
SYS_CLONE3 = 435
CAPABILITY_VERSION_3 = 0x20080522
SYS_MOVE_MOUNT = 429
SYS_CLOSE_RANGE = 436
NO_DESCRIPTOR = 0xFFFFFFFF

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]
_libc.syscall.restype = ctypes.c_long
_python = ctypes.PyDLL(None, use_errno=True)
_fork = _python.fork

_Header = ctypes.c_uint32 * 2
_Sets = ctypes.c_uint32 * 6
_header = _Header(CAPABILITY_VERSION_3, 0)
_found = _Sets()


class _Clone(ctypes.Structure):
    """`struct clone_args`."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls", "set_tid"),
            *("set_tid_size", "cgroup"),
        )
    )


class _Filter(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def fork() -> int:
    """fork(2) without what Python does around it: for processes of one thread that hold no lock.

    It touches a quarter of the pages that `os.fork` touches. What `os.fork` would have told loaded modules is left to
    the child (see `programs.run`).
    """
    return _check(_fork(), "fork")


def fork_into(group: int) -> int:
    """fork(2) into a new PID namespace and the control group of a directory's descriptor (clone3, Linux 5.7).

    A process that is moved to a group later waits for every processor of the machine to pass a certain point.
    """
    arguments = _Clone(flags=CLONE_NEWPID | CLONE_INTO_CGROUP, exit_signal=SIGCHLD, cgroup=group)
    return _check(_python.syscall(SYS_CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments)), "clone3")


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(flags), "unshare")


def enter_namespace(descriptor: int, kind: int) -> None:
    """setns(2)."""
    _check(_libc.setns(descriptor, kind), "setns")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    if _libc.mount(encoded[0], encoded[1], encoded[2], flags, encoded[3]) < 0:
        _check(-1, f"mount {target}")


def move_mount(tree: int, target: str) -> None:
    """Put a mount that is nowhere yet on *target*."""
    if _libc.syscall(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH) < 0:
        _check(-1, f"move_mount {target}")


def pivot_root(new: str) -> None:
    """Make the directory *new* the root and forget the old one."""
    os.chdir(new)
    _check(_libc.pivot_root(b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")


class Capabilities:
    """A set of capabilities, ready to be taken; *mask* has a bit for each."""

    def __init__(self, mask: int) -> None:
        low, high = mask & 0xFFFFFFFF, mask >> 32
        self._sets = _Sets(low, low, low, high, high, high)
        self._expected = bytes(self._sets)
        self._numbers = [number for number in range(64) if mask >> number & 1]

    def take(self) -> None:
        """Have exactly these, across programs that are started too (they are ambient). Raises OSError."""
        _check(_libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl PR_CAP_AMBIENT_CLEAR_ALL")
        _check(_libc.capset(_header, self._sets), "capset")
        for number in self._numbers:
            _check(_libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0), "prctl PR_CAP_AMBIENT_RAISE")

    def verify(self) -> None:
        """Ask the kernel. Raises OSError if this process has others than these."""
        _check(_libc.capget(_header, _found), "capget")
        if bytes(_found) != self._expected:
            raise OSError("the capabilities of the stage are not those that it was to have")


def forbid_new_privileges() -> None:
    """PR_SET_NO_NEW_PRIVS."""
    _check(_libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl PR_SET_NO_NEW_PRIVS")


def filter_system_calls(program: bytes) -> None:
    """Install a filter, an array of `struct sock_filter`."""
    filter_ = _Filter(len(program) // 8, program)
    _check(_libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(filter_), 0, 0), "prctl PR_SET_SECCOMP")


def set_name(name: str) -> None:
    """Set what ps shows; the kernel cuts it after 15 bytes."""
    text = ctypes.create_string_buffer(name.encode())
    _check(_libc.prctl(PR_SET_NAME, ctypes.addressof(text), 0, 0, 0), "prctl PR_SET_NAME")


def close_from(first: int) -> None:
    """Close every descriptor from *first* on."""
    if _libc.syscall(SYS_CLOSE_RANGE, first, NO_DESCRIPTOR, 0) < 0:
        os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def _check(result: Any, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return int(result)
