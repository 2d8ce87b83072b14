"""Writing files so that a reader sees all of one or none, whatever is killed when."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from kiln.errors import Domain, ExitStatus, KilnError, disk_full
from kiln.linux import faults


@contextmanager
def atomic_file(path: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a temporary file beside *path*, which it replaces when the block ends well; else nothing is visible.

    Raises KilnError(STORE, "no-space") when the disk is full, OSError otherwise.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            faults.point("write:opened")
            os.fchmod(descriptor, mode)  # the umask must not decide who reads a key or an image
            yield file
            file.flush()
            os.fsync(descriptor)
        faults.point("write:written")
        temporary.replace(path)
        faults.point("write:renamed")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path, Domain.STORE) from error
        raise
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    sync_directory(path.parent)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace *path* by *data* in one step. Raises as atomic_file does."""
    with atomic_file(path, mode=mode) as file:
        file.write(data)


def write_if_changed(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Like write_atomic, but leaves an equal file untouched, so that its time stamps keep their meaning."""
    try:
        if path.read_bytes() == data:
            return
    except FileNotFoundError:
        pass
    write_atomic(path, data, mode=mode)


def append_fsync(path: Path, data: bytes) -> None:
    """Append *data* in one write and have it on disk before returning; all of it or nothing.

    Raises KilnError(STORE, "no-space") when the disk is full, OSError otherwise.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        written = os.write(descriptor, data)
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        if written != len(data):
            os.ftruncate(descriptor, end - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path, Domain.STORE) from error
        raise
    finally:
        os.close(descriptor)
    if end == written:
        sync_directory(path.parent)  # a new file: its name must be on disk too


def read_limited(path: Path, max_bytes: int) -> bytes:
    """Return the content of *path*. Raises KilnError(STORE, "too-large") when it is longer than *max_bytes*."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise KilnError(
            Domain.STORE,
            "too-large",
            f"{path} has more than {max_bytes} bytes",
            hint="is it the right file?",
            exit_status=ExitStatus.USAGE,
        )
    return data


def sync_directory(path: Path) -> None:
    """Have the names in a directory on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
