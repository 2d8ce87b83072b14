"""How much longer a step will take, from how far it has come."""

from __future__ import annotations

from collections import deque
from typing import Final

WINDOW: Final = 50
MINIMUM_SECONDS: Final = 1.5
MINIMUM_SHARE: Final = 0.04
"""Before that a guess would jump about."""


class Estimator:
    """Estimates the time left from the rate over the last reports."""

    def __init__(self) -> None:
        self._reports: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self._started: float | None = None

    def report(self, now: float, done: int) -> None:
        """Note that *done* units were finished at *now* (seconds of any steady clock)."""
        if self._started is None or (self._reports and done < self._reports[-1][1]):
            self._reports.clear()
            self._started = now
        self._reports.append((now, done))

    def seconds_left(self, total: int | None) -> float | None:
        """Return the estimate, or None where nothing can be said yet."""
        if total is None or len(self._reports) < 2 or self._started is None:
            return None
        (first_time, first_done), (last_time, last_done) = self._reports[0], self._reports[-1]
        if last_time - self._started < MINIMUM_SECONDS or last_done <= first_done or last_done < total * MINIMUM_SHARE:
            return None
        return (total - last_done) * (last_time - first_time) / (last_done - first_done)
