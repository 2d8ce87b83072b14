"""Mounts that are nowhere yet: made in one mount namespace, passed on as descriptors, put into place in another one.

The numbers of the system calls are the same on every architecture (asm-generic/unistd.h); Linux 5.12 has all of them.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

# include/uapi/linux/mount.h, fcntl.h
_SYS_OPEN_TREE: Final = 428
_SYS_MOUNT_SETATTR: Final = 442
OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _Attributes(ctypes.Structure):
    """`struct mount_attr`."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def clone(path: str, *, read_only: bool, devices: bool) -> int:
    """Return a descriptor of a copy of the mount at *path*, with those below it, as `mount --rbind` makes one.

    Set-user-ID bits never work in it, device nodes only with *devices*. Whoever closes the last descriptor of a mount
    that is still nowhere unmounts it. Raises OSError.
    """
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
    tree = _libc.syscall(_SYS_OPEN_TREE, AT_FDCWD, os.fsencode(path), flags)
    if tree < 0:
        raise _error(path)
    set_ = MOUNT_ATTR_NOSUID | (MOUNT_ATTR_RDONLY if read_only else 0) | (0 if devices else MOUNT_ATTR_NODEV)
    attributes = _Attributes(attr_set=set_)
    size = ctypes.sizeof(attributes)
    if _libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, ctypes.byref(attributes), size) < 0:
        error = _error(path)
        os.close(tree)
        raise error
    return int(tree)


def _error(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
