"""The socket `osbuild` in the sandbox: what a stage tells the engine while it runs.

Whatever arrives is a stranger's; a message that is not understood is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kiln.events.model import Progress, Sink, Unit

ENDPOINT: Final = "osbuild"
PROGRESS_INTERVAL_SECONDS: Final = 0.05
UNITS: Final[Mapping[str, Unit]] = {
    "bytes": "bytes",
    "packages": "packages",
    "stages": "stages",
    "checks": "checks",
    "files": "files",
    "seconds": "seconds",
}


class Messages:
    """Takes messages; *exception* is the last one that a program sent."""

    def __init__(self, sink: Sink, item: str) -> None:
        self.exception: Mapping[str, Any] | None = None
        self._sink = sink
        self._item = item
        self._last = 0.0

    def handle(self, message: Any, descriptors: Sequence[int]) -> None:
        """Take a message; there is no answer."""
        del descriptors
        if not isinstance(message, dict):
            return
        if message.get("method") == "exception" and isinstance(message.get("exception"), dict):
            self.exception = {"type": "exception", "data": message["exception"]}
        elif message.get("method") == "progress" and isinstance(message.get("progress"), dict):
            self._progress(message["progress"])

    def _progress(self, progress: Mapping[str, Any]) -> None:
        done, total = _count(progress.get("done")), _count(progress.get("total"))
        unit = UNITS.get(str(progress.get("unit")))
        if done is None or unit is None:
            return
        now = time.monotonic()
        if now - self._last < PROGRESS_INTERVAL_SECONDS and done != total:
            return
        self._last = now
        item = progress.get("item")
        self._sink.emit(Progress("build", done, total, unit, item if isinstance(item, str) and item else self._item))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None
