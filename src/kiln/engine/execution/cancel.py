"""Ending a build from outside: a flag that can also be waited for like a file."""

from __future__ import annotations

import os
import threading
from types import TracebackType


class Cancel:
    """Use as a context manager. Once set it stays set, for every thread that looks or waits."""

    def __init__(self) -> None:
        self._flag = threading.Event()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __enter__(self) -> Cancel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def set(self) -> None:
        """End the build."""
        self._flag.set()
        os.eventfd_write(self._descriptor, 1)

    def is_set(self) -> bool:
        """Whether the build is to end."""
        return self._flag.is_set()

    def fileno(self) -> int:
        """Return a descriptor that is readable once the flag is set."""
        return self._descriptor
