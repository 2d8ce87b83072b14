"""Advisory locks between processes. A lock file is never deleted: its name is the lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kiln.errors import Domain, ExitStatus, KilnError


@contextmanager
def exclusive(path: Path, *, blocking: bool = True) -> Iterator[None]:
    """Hold the lock *path* alone. Raises KilnError(STORE, "busy") if not *blocking* and somebody holds it."""
    with _locked(path, fcntl.LOCK_EX, blocking=blocking):
        yield


@contextmanager
def shared(path: Path, *, blocking: bool = True) -> Iterator[None]:
    """Hold the lock *path* together with other readers. Raises as exclusive does."""
    with _locked(path, fcntl.LOCK_SH, blocking=blocking):
        yield


@contextmanager
def _locked(path: Path, kind: int, *, blocking: bool) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, kind | (0 if blocking else fcntl.LOCK_NB))
        except BlockingIOError:
            raise KilnError(
                Domain.STORE,
                "busy",
                f"another process holds {path}",
                hint="wait until it has finished, or look for it with `fuser -v` on that file",
                exit_status=ExitStatus.INFRASTRUCTURE,
                retriable=True,
            ) from None
        yield
    finally:
        # Closing alone would leave the lock with any child that was forked meanwhile.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)
