"""Loop devices: files that are used as block devices, by ioctl (Python 3.6, Linux)."""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import time

LO_NAME_SIZE = 64
LO_KEY_SIZE = 32


class LoopInfo(ctypes.Structure):
    """struct loop_info64 of include/uapi/linux/loop.h."""

    _fields_ = [
        ("lo_device", ctypes.c_uint64),
        ("lo_inode", ctypes.c_uint64),
        ("lo_rdevice", ctypes.c_uint64),
        ("lo_offset", ctypes.c_uint64),
        ("lo_sizelimit", ctypes.c_uint64),
        ("lo_number", ctypes.c_uint32),
        ("lo_encrypt_type", ctypes.c_uint32),
        ("lo_encrypt_key_size", ctypes.c_uint32),
        ("lo_flags", ctypes.c_uint32),
        ("lo_file_name", ctypes.c_uint8 * LO_NAME_SIZE),
        ("lo_crypt_name", ctypes.c_uint8 * LO_NAME_SIZE),
        ("lo_encrypt_key", ctypes.c_uint8 * LO_KEY_SIZE),
        ("lo_init", ctypes.c_uint64 * 2),
    ]

    @property
    def autoclear(self):
        """Whether the device is released when nobody has it open."""
        return bool(self.lo_flags & Loop.LO_FLAGS_AUTOCLEAR)

    def is_bound_to(self, info):
        """Whether this is the file that os.stat_result *info* describes."""
        return self.lo_inode == info.st_ino and self.lo_device == info.st_dev


class LoopConfig(ctypes.Structure):
    """struct loop_config."""

    _fields_ = [
        ("fd", ctypes.c_uint32),
        ("block_size", ctypes.c_uint32),
        ("info", LoopInfo),
        ("reserved", ctypes.c_uint64 * 8),
    ]


class UnexpectedDevice(Exception):  # noqa: N818 - osbuild's name
    """A file that should be a certain loop device is another one."""

    def __init__(self, expected_minor, rdev, mode):
        super().__init__("expected the loop device %d, found %#x (mode %o)" % (expected_minor, rdev, mode))
        self.expected_minor = expected_minor
        self.rdev = rdev
        self.mode = mode


class Loop:
    """One loop device; close it, or use it as a context manager."""

    LOOP_MAJOR = 7
    LO_FLAGS_READ_ONLY = 1
    LO_FLAGS_AUTOCLEAR = 4
    LO_FLAGS_PARTSCAN = 8
    LO_FLAGS_DIRECT_IO = 16

    LOOP_SET_FD = 0x4C00
    LOOP_CLR_FD = 0x4C01
    LOOP_SET_STATUS64 = 0x4C04
    LOOP_GET_STATUS64 = 0x4C05
    LOOP_SET_CAPACITY = 0x4C07
    LOOP_SET_DIRECT_IO = 0x4C08
    LOOP_SET_BLOCK_SIZE = 0x4C09
    LOOP_CONFIGURE = 0x4C0A
    BLKFLSBUF = 0x1261

    def __init__(self, minor, dir_fd=None):
        """Open the device *minor* in the directory *dir_fd* (by default /dev). Raises OSError, UnexpectedDevice."""
        self.devname = "loop%d" % minor
        self.minor = minor
        self.on_close = None
        own = dir_fd is None
        if own:
            dir_fd = os.open("/dev", os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fd = os.open(self.devname, os.O_RDWR | os.O_CLOEXEC, dir_fd=dir_fd)
        finally:
            if own:
                os.close(dir_fd)
        info = os.fstat(self.fd)
        if not stat.S_ISBLK(info.st_mode) or info.st_rdev != os.makedev(self.LOOP_MAJOR, minor):
            self.close()
            raise UnexpectedDevice(minor, info.st_rdev, info.st_mode)

    def __del__(self):
        self.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        return False

    def close(self):
        """Close the device (it stays bound unless it is autoclear). Safe to call again."""
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            if callable(self.on_close):
                self.on_close(self)
            os.close(fd)

    def flock(self, operation):
        """Lock the device, for example against udev."""
        fcntl.flock(self.fd, operation)

    def flush_buf(self):
        """Write what the kernel holds for the device."""
        fcntl.ioctl(self.fd, self.BLKFLSBUF)

    def set_fd(self, fd):
        """Bind the device to the file *fd*. Raises OSError(EBUSY) if it is bound already."""
        fcntl.ioctl(self.fd, self.LOOP_SET_FD, fd)

    def clear_fd(self):
        """Release the file."""
        fcntl.ioctl(self.fd, self.LOOP_CLR_FD)

    def clear_fd_wait(self, fd, timeout, wait=0.1):
        """Release the file *fd* and wait until it is released, at most *timeout* seconds. Raises TimeoutError."""
        info, deadline = os.fstat(fd), time.monotonic() + timeout
        while self.is_bound_to(info):
            with contextlib.suppress(OSError):
                self.clear_fd()
            if not self.is_bound_to(info):
                return
            if time.monotonic() > deadline:
                raise TimeoutError("%s is still bound after %s seconds" % (self.devname, timeout))
            time.sleep(wait)

    def is_bound_to(self, info):
        """Whether the device is bound to the file that os.stat_result *info* describes."""
        try:
            return self.get_status().is_bound_to(info)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return False
            raise

    def get_status(self):
        """Return LoopInfo. Raises OSError(ENXIO) for a device that is bound to nothing."""
        info = LoopInfo()
        fcntl.ioctl(self.fd, self.LOOP_GET_STATUS64, info)
        return info

    def loop_configure(
        self, fd, offset=None, sizelimit=None, blocksize=0, autoclear=None, partscan=None, read_only=None
    ):
        """Bind the device and set it up in one step. Raises OSError."""
        flags = 0
        for wanted, flag in (
            (autoclear, self.LO_FLAGS_AUTOCLEAR),
            (partscan, self.LO_FLAGS_PARTSCAN),
            (read_only, self.LO_FLAGS_READ_ONLY),
        ):
            flags |= flag if wanted else 0
        config = LoopConfig(fd=fd, block_size=int(blocksize or 0))
        config.info.lo_flags = flags
        config.info.lo_offset = int(offset or 0)
        config.info.lo_sizelimit = int(sizelimit or 0)
        try:
            fcntl.ioctl(self.fd, self.LOOP_CONFIGURE, config)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTTY):
                raise
            # Before Linux 5.8 it takes two steps.
            self.set_fd(fd)
            if config.block_size:
                self.set_block_size(config.block_size)
            self.set_status(offset, sizelimit, autoclear, partscan)

    def set_status(self, offset=None, sizelimit=None, autoclear=None, partscan=None):
        """Change what is given of a bound device. Raises OSError."""
        info = self.get_status()
        for wanted, flag in ((autoclear, self.LO_FLAGS_AUTOCLEAR), (partscan, self.LO_FLAGS_PARTSCAN)):
            if wanted is not None:
                info.lo_flags = (info.lo_flags | flag) if wanted else (info.lo_flags & ~flag)
        if offset is not None:
            info.lo_offset = offset
        if sizelimit is not None:
            info.lo_sizelimit = sizelimit
        fcntl.ioctl(self.fd, self.LOOP_SET_STATUS64, info)

    def set_capacity(self):
        """Take the file's new size."""
        fcntl.ioctl(self.fd, self.LOOP_SET_CAPACITY)

    def set_direct_io(self, dio=True):
        """Read and write past the page cache, where the file system can."""
        fcntl.ioctl(self.fd, self.LOOP_SET_DIRECT_IO, int(dio))

    def set_block_size(self, size):
        """Set the size of a sector in bytes."""
        fcntl.ioctl(self.fd, self.LOOP_SET_BLOCK_SIZE, size)

    def mknod(self, dir_fd, mode=0o600):
        """Make the device's node in another directory. Raises OSError."""
        os.mknod(self.devname, mode | stat.S_IFBLK, os.makedev(self.LOOP_MAJOR, self.minor), dir_fd=dir_fd)


class LoopControl:
    """/dev/loop-control: finds free devices and makes new ones."""

    LOOP_CTL_ADD = 0x4C80
    LOOP_CTL_REMOVE = 0x4C81
    LOOP_CTL_GET_FREE = 0x4C82
    LOOP_MAJOR = 10
    LOOP_MINOR = 237

    def __init__(self, dir_fd=None):
        own = dir_fd is None
        if own:
            dir_fd = os.open("/dev", os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.fd = os.open("loop-control", os.O_RDWR | os.O_CLOEXEC, dir_fd=dir_fd)
        finally:
            if own:
                os.close(dir_fd)

    def __del__(self):
        self.close()

    def close(self):
        """Close it. Safe to call again."""
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            os.close(fd)

    def _check_open(self):
        if self.fd < 0:
            raise RuntimeError("the loop control is closed")

    def add(self, minor=-1):
        """Make the device *minor*, or any; returns its number."""
        self._check_open()
        return fcntl.ioctl(self.fd, self.LOOP_CTL_ADD, minor)

    def remove(self, minor=-1):
        """Take a device away."""
        self._check_open()
        fcntl.ioctl(self.fd, self.LOOP_CTL_REMOVE, minor)

    def get_unbound(self):
        """Return the number of a device that was free a moment ago."""
        self._check_open()
        return fcntl.ioctl(self.fd, self.LOOP_CTL_GET_FREE)

    def loop_for_fd(self, fd, lock=False, setup=None, **kwargs):
        """Return a device bound to the file *fd*; *kwargs* are those of `Loop.loop_configure`.

        *setup* is called with each device before it is bound; *lock* holds a lock on it. Raises OSError.
        """
        if fd < 0:
            raise ValueError("no file to bind")
        while True:
            loop = Loop(self.get_unbound())
            try:
                if lock:
                    loop.flock(fcntl.LOCK_EX | fcntl.LOCK_NB)
                if callable(setup):
                    setup(loop)
                loop.loop_configure(fd, **kwargs)
            except OSError as error:
                loop.close()
                # Somebody else was faster: take the next one.
                if error.errno in (errno.EBUSY, errno.EAGAIN):
                    time.sleep(0.01)
                    continue
                raise
            except BaseException:
                loop.close()
                raise
            return loop
