"""The machine's serial port: a thread that always drains it, and a buffer in which others look for text."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from typing import Final

from kiln.events.model import Output, Sink
from kiln.trial.boot_watch import plain

KEPT_CHARACTERS: Final = 4 * 1024 * 1024
"""A guest that floods its console must not fill the host's memory; the log file has everything."""


class SerialConsole:
    """Both directions of a serial port over a connected socket; use as a context manager.

    Text is kept without terminal escapes. A *position* counts characters from power on and stays valid when old
    text is dropped.
    """

    def __init__(self, connection: socket.socket, sink: Sink) -> None:
        self._connection = connection
        self._sink = sink
        self._changed = threading.Condition()
        self._text = ""
        self._dropped = 0
        self._ended = False
        self._thread = threading.Thread(target=self._read, name="serial-console", daemon=True)

    def __enter__(self) -> SerialConsole:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the other end may have gone first
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._connection.close()

    @property
    def position(self) -> int:
        """How many characters have come so far."""
        with self._changed:
            return self._dropped + len(self._text)

    @property
    def ended(self) -> bool:
        """Whether the machine closed the port."""
        with self._changed:
            return self._ended

    def text(self, since: int = 0) -> str:
        """Return what has come after *since* and is still kept."""
        with self._changed:
            return self._text[max(0, since - self._dropped) :]

    def send(self, text: str) -> None:
        """Type *text*. Raises OSError when the machine is gone."""
        self._connection.sendall(text.encode("utf-8"))

    def wait_for(self, pattern: re.Pattern[str], *, since: int, timeout_seconds: float) -> re.Match[str] | None:
        """Return the first match of *pattern* after *since*, or None when time is up or the machine is gone."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while True:
                match = pattern.search(self._text[max(0, since - self._dropped) :])
                remaining = deadline - time.monotonic()
                if match is not None or self._ended or remaining <= 0:
                    return match
                self._changed.wait(remaining)

    def _read(self) -> None:
        pending = b""
        while True:
            try:
                piece = self._connection.recv(65536)
            except OSError:
                piece = b""
            pending += piece
            # Escapes are removed from whole lines, so that one cut in two by a read is still recognised; a prompt
            # has no end of line, and an escape is never longer than this.
            cut = len(pending) if not piece or b"\x1b" not in pending[-32:] else pending.rindex(b"\x1b")
            if not piece:
                cut = len(pending)
            self._append(plain(pending[:cut].decode("utf-8", "replace")), ended=not piece)
            pending = pending[cut:]
            if not piece:
                return

    def _append(self, text: str, *, ended: bool) -> None:
        with self._changed:
            self._text += text
            excess = len(self._text) - KEPT_CHARACTERS
            if excess > KEPT_CHARACTERS // 4:  # not at every read, because it copies everything
                self._text = self._text[excess:]
                self._dropped += excess
            self._ended = self._ended or ended
            self._changed.notify_all()
        if text:
            self._sink.emit(Output("serial", text))
