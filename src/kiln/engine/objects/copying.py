"""Copying files out of a store without reading holes, and without copying at all where the file system can share.

Each file gets its name when it is complete. Nothing is flushed to the disk: an export can be repeated.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from kiln.linux import faults

FICLONE: Final = 0x40049409
"""ioctl(2) that shares the blocks of a file (include/uapi/linux/fs.h)."""
OVERLAY_ATTRIBUTES: Final = "trusted.overlay."
"""Extended attributes by which overlayfs says how layers fit together: they are not the tree's."""
CHUNK_BYTES: Final = 64 * 1024 * 1024
_TEMPORARY: Final = re.compile(r"\.kiln-([0-9]+)-[0-9a-f]{16}\.tmp")
_CANNOT: Final = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.EBADF)


def copy_tree(
    source: Path, destination: Path, *, real: Callable[[str], Path | None] | None = None, owners: bool = True
) -> int:
    """Copy everything in *source* into *destination*, replacing files of the same name; returns the bytes of files.

    *real* may give a path outside the overlay for a file (relative to *source*), which copies faster. Mode, times,
    extended attributes, hard links and devices are kept, and with *owners* the owner.
    Raises OSError, KilnError(ENGINE, "no-space").
    """
    destination.mkdir(parents=True, exist_ok=True)
    remove_leftovers(destination)
    try:
        return _Copy(real or (lambda path: None), owners).directory(source, destination, "")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            from kiln.errors import Domain, disk_full  # noqa: PLC0415 - the rest of a repeated export needs it not

            raise disk_full(destination, Domain.ENGINE) from error
        raise


def copy_file(source: Path, target: Path) -> int:
    """Copy the bytes of a regular file to the new file *target*, holes as holes; returns its size. Raises OSError."""
    reading = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(reading).st_size
            if not _cloned(reading, writing):
                os.ftruncate(writing, size)
                _copy_data(reading, writing, size)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return size


def remove_leftovers(directory: Path) -> None:
    """Delete what copies that were killed left in *directory*; those of living processes stay. Raises OSError."""
    for path in directory.iterdir():
        match = _TEMPORARY.fullmatch(path.name)
        if match is not None and not Path(f"/proc/{match[1]}").exists():
            path.unlink(missing_ok=True)


class _Copy:
    __slots__ = ("links", "owners", "real")

    def __init__(self, real: Callable[[str], Path | None], owners: bool) -> None:
        self.real = real
        self.owners = owners
        self.links: dict[tuple[int, int], Path] = {}

    def directory(self, source: Path, destination: Path, prefix: str) -> int:
        total = 0
        with os.scandir(source) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            path, target, relative = source / name, destination / name, f"{prefix}{name}"
            status = path.lstat()
            if stat.S_ISDIR(status.st_mode):
                if target.is_symlink() or not target.is_dir():
                    target.unlink(missing_ok=True)
                    target.mkdir()
                else:
                    remove_leftovers(target)
                total += self.directory(path, target, f"{relative}/")
            else:
                total += self._file(path, target, relative, status)
        copy_attributes(source, destination, source.lstat(), owners=self.owners)
        return total

    def _file(self, path: Path, target: Path, relative: str, status: os.stat_result) -> int:
        total = 0
        first = self.links.get((status.st_dev, status.st_ino))
        temporary = target.with_name(f".kiln-{os.getpid()}-{os.urandom(8).hex()}.tmp")
        try:
            if first is not None:
                os.link(first, temporary, follow_symlinks=False)
            else:
                faults.point("export:file-begun")
                total = _copy_entry(path, temporary, status, self.real(relative))
                copy_attributes(path, temporary, status, owners=self.owners)
                faults.point("export:file-written")
            temporary.replace(target)
            faults.point("export:file-renamed")
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
        if first is None and status.st_nlink > 1:
            self.links[status.st_dev, status.st_ino] = target
        return total


def _copy_entry(source: Path, target: Path, status: os.stat_result, real: Path | None) -> int:
    if stat.S_ISREG(status.st_mode):
        return copy_file(real or source, target)
    if stat.S_ISLNK(status.st_mode):
        target.symlink_to(source.readlink())
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    return 0


def copy_attributes(source: Path, target: Path, status: os.stat_result, *, owners: bool = True) -> None:
    """Give *target* the owner (if *owners*), mode, extended attributes and times of *source*. Raises OSError."""
    if owners:
        os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        target.chmod(stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if not name.startswith(OVERLAY_ATTRIBUTES):
            value = os.getxattr(source, name, follow_symlinks=False)
            os.setxattr(target, name, value, follow_symlinks=False)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def _cloned(reading: int, writing: int) -> bool:
    try:
        fcntl.ioctl(writing, FICLONE, reading)
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _copy_data(reading: int, writing: int, size: int) -> None:
    position = 0
    while position < size:
        try:
            start = os.lseek(reading, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole is left
            raise
        end = os.lseek(reading, start, os.SEEK_HOLE)
        _copy_range(reading, writing, start, end)
        position = end


def _copy_range(reading: int, writing: int, start: int, end: int) -> None:
    while start < end:
        count = min(CHUNK_BYTES, end - start)
        try:
            copied = os.copy_file_range(reading, writing, count, start, start)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            os.lseek(writing, start, os.SEEK_SET)
            copied = os.sendfile(writing, reading, start, count)
        if copied == 0:
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        start += copied
