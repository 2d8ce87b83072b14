"""One process's own directory in a store: it is locked as long as the process lives, and cleared when it does not."""

from __future__ import annotations

import itertools
import os
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

from kiln.engine.objects import pins
from kiln.engine.objects.layout import Layout
from kiln.errors import KilnError
from kiln.linux import locks, mounts

_LOCK = "lock"


class Session:
    """Makes numbered directories below `working/<session>/`. Safe to use from several threads."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._numbers = itertools.count()
        self._held = ExitStack()
        self._guard = threading.Lock()
        self._path: Path | None = None
        self._pinned: set[str] = set()

    def pin(self, key: str) -> None:
        """Keep the object of *key* from being evicted until the session ends. Raises OSError."""
        if key in self._pinned:
            return
        pins.pin(self._layout, self._own(), key)
        self._pinned.add(key)

    def directory(self, prefix: str) -> Path:
        """Return a new, empty directory that goes away with the session. Raises OSError."""
        path = self._own() / f"{prefix}{next(self._numbers)}"
        path.mkdir()
        return path

    def close(self) -> None:
        """Leave nothing behind. What could not be deleted at once goes to the trash."""
        if self._path is not None:
            path, self._path = self._path, None
            with suppress(OSError):
                if self._pinned:
                    for key in self._pinned:
                        (path / pins.PINS / key).unlink()
                    (path / pins.PINS).rmdir()
                (path / _LOCK).unlink()
                path.rmdir()
            throw_away(self._layout, path)
        self._held.close()

    def _own(self) -> Path:
        with self._guard:
            if self._path is None:
                self._path = self._make()
            return self._path

    def _make(self) -> Path:
        path = self._layout.working / os.urandom(8).hex()
        with locks.shared(self._layout.root / "working.lock"):
            path.mkdir()
            self._held.enter_context(locks.exclusive(path / _LOCK, blocking=False))
        return path


def clear_dead_sessions(layout: Layout) -> int:
    """Take away the directories of processes that have died; returns how many there were. Raises OSError."""
    if not any(layout.working.iterdir()):
        return 0
    count = 0
    with locks.exclusive(layout.root / "working.lock"):
        for path in list(layout.working.iterdir()):
            try:
                with locks.exclusive(path / _LOCK, blocking=False):
                    for point in mounts.mounted_below(path):
                        mounts.unmount(point, lazy=True)
                    throw_away(layout, path)
                    count += 1
            except KilnError as error:
                if error.reason != "busy":
                    raise
    return count


def drop_unwritten(layout: Layout) -> None:
    """Drop objects of an earlier boot of the machine that were never known to be on disk. Raises OSError."""
    boot = boot_id()
    for mark in list(layout.pending.iterdir()):
        key, _, written = mark.name.partition(".")
        if written != boot:
            throw_away(layout, layout.object(key))
            mark.unlink(missing_ok=True)


def throw_away(layout: Layout, path: Path) -> None:
    """Move *path* out of sight in O(1); the collector deletes it. Nothing happens if it does not exist."""
    with suppress(FileNotFoundError):
        path.rename(layout.trash / f"{path.name}-{os.urandom(8).hex()}")


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"unknown-{os.getpid()}"
