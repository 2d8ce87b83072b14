"""The sandbox of one stage, made by its own first process: namespaces, a new root, nothing else.

What is visible is the same, mount for mount, as under bubblewrap with the same description.
"""

from __future__ import annotations

import fcntl
import os
import posixpath
import socket
import stat
import struct
from collections.abc import Iterator, Sequence

from . import kernel

SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
IFREQ_UP = struct.pack("16sh22x", b"lo", IFF_UP)
STAGING = "/tmp"
ROOT = f"{STAGING}/newroot"
"""Where the new root is put together: in the first process's own mount namespace, nobody else sees it."""
PROC_COVERED = ("sys", "sysrq-trigger", "irq", "bus")
"""What of /proc acts on the whole machine: read-only where it is not so already, as bubblewrap has it."""

Described = Sequence[Sequence[str]]
"""[kind, target, text] of each mount, in order."""


def enter(mounts: Described, trees: Sequence[int]) -> None:
    """Move this process into new namespaces whose file system is *mounts*.

    *trees* are the descriptors of mounts, one for each entry of the kind `tree`. Raises OSError.
    """
    os.setsid()
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWNET | kernel.CLONE_NEWCGROUP)
    _start_loopback()
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", STAGING, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV)
    os.mkdir(ROOT, 0o755)
    kernel.mount(ROOT, ROOT, None, kernel.MS_BIND | kernel.MS_REC)
    remaining = iter(trees)
    for kind, target, text in mounts:
        _place(kind, ROOT + target, text, remaining)
    kernel.pivot_root(ROOT)


def _place(kind: str, target: str, text: str, trees: Iterator[int]) -> None:
    if kind == "tree":
        tree = next(trees)
        _make_target(target, directory=stat.S_ISDIR(os.fstat(tree).st_mode))
        kernel.move_mount(tree, target)
        return
    if kind == "symlink":
        os.symlink(text, target)
        return
    _make_target(target, directory=True)
    if kind == "tmpfs":
        kernel.mount("tmpfs", target, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0755")
    elif kind == "proc":
        flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC
        kernel.mount("proc", target, "proc", flags)
        for name in PROC_COVERED:
            path = f"{target}/{name}"
            if os.access(path, os.W_OK):
                kernel.mount(path, path, None, kernel.MS_BIND | kernel.MS_REC)
                kernel.mount(None, path, None, kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | flags)
    elif kind != "dir":
        raise OSError(f"unknown kind of mount: {kind}")


def _make_target(target: str, *, directory: bool) -> None:
    """Make what a mount is put on. Only directories of the new root's own file systems miss anything."""
    try:
        if directory:
            os.mkdir(target, 0o755)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))
    except FileExistsError:
        return
    except FileNotFoundError:
        _make_parents(posixpath.dirname(target))
        _make_target(target, directory=directory)
    except OSError:
        # Inside a read-only mount: there it exists, or the mount itself says what is missing.
        if not os.path.lexists(target):
            raise


def _make_parents(directory: str) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileNotFoundError:
        _make_parents(posixpath.dirname(directory))
        os.mkdir(directory, 0o700)


def _start_loopback() -> None:
    """Bring up `lo`, which gets its address by itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, IFREQ_UP)
