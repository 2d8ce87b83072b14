"""Loop devices by ioctl: a file as a block device, released when it is closed or its owner dies (autoclear)."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# include/uapi/linux/loop.h, fs.h
LOOP_CTL_GET_FREE: Final = 0x4C82
LOOP_CONFIGURE: Final = 0x4C0A
LOOP_CLR_FD: Final = 0x4C01
BLKFLSBUF: Final = 0x1261
LO_FLAGS_READ_ONLY: Final = 1
LO_FLAGS_AUTOCLEAR: Final = 4
LO_FLAGS_PARTSCAN: Final = 8
LOOP_MAJOR: Final = 7
RETRIES: Final = 100
"""Between finding a free device and taking it, somebody else can be faster."""

_INFO: Final = struct.Struct("=5Q4I64s64s32s2Q")
_CONFIG: Final = struct.Struct(f"=2I{_INFO.size}s8Q")


@dataclass(slots=True)
class LoopDevice:
    """A bound loop device; *name* is its name in /dev. Close it."""

    name: str
    minor: int
    descriptor: int

    def make_node(self, directory: int) -> None:
        """Make its node in the directory with this descriptor. Raises OSError."""
        with suppress(FileExistsError):
            os.mknod(self.name, 0o600 | stat.S_IFBLK, os.makedev(LOOP_MAJOR, self.minor), dir_fd=directory)

    def close(self) -> None:
        """Write what the kernel holds and release the file. Safe to call again; raises OSError if writing fails."""
        if self.descriptor < 0:
            return
        descriptor, self.descriptor = self.descriptor, -1
        try:
            fcntl.ioctl(descriptor, BLKFLSBUF)
            os.fsync(descriptor)
            with suppress(OSError):
                fcntl.ioctl(descriptor, LOOP_CLR_FD)
        finally:
            os.close(descriptor)


def attach(
    file: int,
    *,
    offset_bytes: int = 0,
    limit_bytes: int = 0,
    sector_bytes: int = 0,
    partitions: bool = False,
    read_only: bool = False,
    lock: bool = False,
) -> LoopDevice:
    """Bind a free loop device to the file with this descriptor (Linux 5.8). Raises OSError."""
    flags = LO_FLAGS_AUTOCLEAR | (LO_FLAGS_PARTSCAN if partitions else 0) | (LO_FLAGS_READ_ONLY if read_only else 0)
    info = _INFO.pack(0, 0, 0, offset_bytes, limit_bytes, 0, 0, 0, flags, b"", b"", b"", 0, 0)
    config = _CONFIG.pack(file, sector_bytes, info, *([0] * 8))
    with Path("/dev/loop-control").open("rb", buffering=0) as control:
        for _ in range(RETRIES):
            minor = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
            descriptor = os.open(f"/dev/loop{minor}", os.O_RDWR | os.O_CLOEXEC)
            try:
                if lock:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fcntl.ioctl(descriptor, LOOP_CONFIGURE, config)
            except OSError as error:
                os.close(descriptor)
                if error.errno not in (errno.EBUSY, errno.EAGAIN):
                    raise
                time.sleep(0.01)
                continue
            return LoopDevice(f"loop{minor}", minor, descriptor)
    raise OSError(errno.EBUSY, "no loop device is free")
