"""Holding the maximum size while builds go on: a thread of low priority measures what was committed, and evicts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kiln.engine.objects import eviction
from kiln.engine.objects.layout import Layout

LOWEST_PRIORITY: Final = 19


class SizeKeeper:
    """Wakes up when something was committed. *evicted* is called in its thread after objects were thrown away.

    Nothing runs while the store has no maximum size. Safe to use from several threads.
    """

    def __init__(self, layout: Layout, evicted: Callable[[], None]) -> None:
        self._layout = layout
        self._evicted = evicted
        self._wake = threading.Event()
        self._stopped = False
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def committed(self) -> None:
        """Say that the store has grown."""
        if eviction.read_maximum(self._layout.root) is None:
            return
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="store-size", daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """End the thread when it has done what it is doing."""
        with self._guard:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._stopped = True
            self._wake.set()
            thread.join()

    def _run(self) -> None:
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)  # Linux: of this thread
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stopped:
                return
            maximum = eviction.read_maximum(self._layout.root)
            # A store that cannot be read or written is the build's own finding, with a better message.
            with suppress(OSError):
                if maximum is not None and eviction.evict(self._layout, maximum):
                    self._evicted()
