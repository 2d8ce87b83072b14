"""System calls that Python does not have (Python 3.6)."""

import array
import fcntl
import hashlib
import hmac
import struct
import uuid

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IMMUTABLE_FL = 0x10
BLKFLSBUF = 0x1261
F_OFD_SETLK = 37
F_OFD_SETLKW = 38


def _check(fd):
    if not isinstance(fd, int) or fd < 0:
        raise ValueError("not a file descriptor: %r" % (fd,))


def _flags(fd):
    _check(fd)
    flags = array.array("L", [0])
    fcntl.ioctl(fd, FS_IOC_GETFLAGS, flags, True)
    return flags


def ioctl_get_immutable(fd):
    """Whether a file is immutable. Raises OSError."""
    return bool(_flags(fd)[0] & FS_IMMUTABLE_FL)


def ioctl_toggle_immutable(fd, set_to):
    """Make a file immutable, or take that from it. Raises OSError."""
    flags = _flags(fd)
    flags[0] = flags[0] | FS_IMMUTABLE_FL if set_to else flags[0] & ~FS_IMMUTABLE_FL
    fcntl.ioctl(fd, FS_IOC_SETFLAGS, flags, False)


def ioctl_blockdev_flushbuf(fd):
    """Write and drop what the kernel keeps of a block device. Needs CAP_SYS_ADMIN; raises OSError."""
    _check(fd)
    fcntl.ioctl(fd, BLKFLSBUF, 0)


def fcntl_flock(fd, lock_type, wait=False):
    """Lock a whole file for its open description. Raises BlockingIOError where it is locked and *wait* is false."""
    if lock_type not in (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK):
        raise ValueError("not a lock: %r" % (lock_type,))
    _check(fd)
    # Only the type matters: offset and length 0 are the whole file. The rest covers every layout of struct flock.
    whole = struct.pack("=hhIQQII", lock_type, 0, 0, 0, 0, 0, 0)
    fcntl.fcntl(fd, F_OFD_SETLKW if wait else F_OFD_SETLK, whole)


def proc_boot_id(appid):
    """Return an identifier of this boot of the machine for one application, from which the kernel's is not told."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        boot = file.read().strip()
    digest = bytearray(hmac.new(boot.encode(), appid.encode(), hashlib.sha256).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[6] & 0x3F | 0x80  # osbuild takes byte 6 here; the caches of both shall agree
    return uuid.UUID(bytes=bytes(digest))
