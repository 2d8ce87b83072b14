"""Deleting trees that programs have made, which includes files that the kernel protects from being deleted."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

# include/uapi/linux/fs.h
FS_IOC_GETFLAGS: Final = 0x80086601
FS_IOC_SETFLAGS: Final = 0x40086602
FS_APPEND_FL: Final = 0x20
FS_IMMUTABLE_FL: Final = 0x10
_FLAGS: Final = struct.Struct("l")


def delete_tree(path: Path) -> bool:
    """Delete *path*, whatever it is; returns whether nothing of it is left."""

    def again(function: Any, name: str, _error: Any) -> None:
        """Take the protection of a file and its directory away, and try once more."""
        for protected in (str(Path(name).parent), name):
            _set_flags(protected, 0)
        with suppress(OSError):
            if function in (os.unlink, os.rmdir):
                function(name)
            else:
                shutil.rmtree(name, ignore_errors=True)

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, onerror=again)
    else:
        with suppress(OSError):
            path.unlink()
    return not os.path.lexists(path)


@contextmanager
def unprotected(path: str) -> Iterator[None]:
    """Lift the immutable and append-only flags of a file or directory while the block runs. Raises OSError."""
    flags = _flags(path)
    protection = flags & (FS_APPEND_FL | FS_IMMUTABLE_FL)
    if protection:
        _set_flags(path, flags & ~protection)
    try:
        yield
    finally:
        if protection:
            _set_flags(path, flags)


def _flags(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return int(_FLAGS.unpack(fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(_FLAGS.size)))[0])
    except OSError:
        return 0
    finally:
        os.close(descriptor)


def _set_flags(path: str, flags: int) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, _FLAGS.pack(flags))
        finally:
            os.close(descriptor)
