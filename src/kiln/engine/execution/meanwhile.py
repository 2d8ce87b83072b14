"""Running stages while this thread fetches what later ones need."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

from kiln.engine.execution.cancel import Cancel
from kiln.engine.execution.work import CancelledError

T = TypeVar("T")


class Meanwhile(Generic[T]):
    """Runs *work* in another thread for the length of a block. Its argument ends when the block has ended.

    If the block fails, or is interrupted, *cancel* is set, the work is waited for, and the error of the block goes on.
    """

    def __init__(self, work: Callable[[Future[None]], T], cancel: Cancel) -> None:
        self._work = work
        self._cancel = cancel
        self._block: Future[None] = Future()
        self._pool = ThreadPoolExecutor(1, "stages")

    def __enter__(self) -> Meanwhile[T]:
        self._running = self._pool.submit(self._work, self._block)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._block.set_result(None)
        else:
            self._cancel.set()
            self._block.set_exception(CancelledError())
        try:
            self._running.exception()  # wait for it
        except BaseException:
            self._cancel.set()
            raise
        finally:
            self._pool.shutdown()

    def result(self) -> T:
        """Return what the work has returned, or raise what it has raised."""
        return self._running.result()
