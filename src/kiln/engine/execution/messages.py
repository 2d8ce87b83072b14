"""The socket `osbuild` in the sandbox: what a stage tells the engine while it runs.

Whatever arrives is a stranger's; a message that is not understood is dropped.
"""

from __future__ import annotations

import array
import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

from kiln.events.model import Progress, Sink, Unit

ENDPOINT: Final = "osbuild"
VIA_FILE: Final = b"<args-via-fd>"
MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_CLIENTS: Final = 64
MAX_DESCRIPTORS: Final = 16
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
    """Listens in *directory*; *exception* is the last one that a program sent."""

    def __init__(self, directory: Path, sink: Sink, item: str) -> None:
        self.exception: Mapping[str, Any] | None = None
        self._sink = sink
        self._item = item
        self._last = 0.0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # The address of a Unix socket has 107 bytes; a path through a descriptor always fits.
            self.listener.bind(f"/proc/thread-self/fd/{descriptor}/{ENDPOINT}")
        finally:
            os.close(descriptor)
        self.listener.listen()
        self.listener.setblocking(False)
        self._clients: set[socket.socket] = set()

    def close(self) -> None:
        """Close every connection."""
        for client in (*self._clients, self.listener):
            client.close()

    def accept(self) -> socket.socket | None:
        """Return a new connection, or None where there is none or there are too many."""
        try:
            client, _ = self.listener.accept()
        except OSError:
            return None
        if len(self._clients) >= MAX_CLIENTS:
            client.close()
            return None
        client.setblocking(False)
        self._clients.add(client)
        return client

    def drain(self) -> None:
        """Take everything that was sent before the program ended."""
        while self.accept() is not None:
            pass
        for client in list(self._clients):
            while self.receive(client) == "message":
                pass

    def receive(self, client: socket.socket) -> Literal["message", "nothing", "closed"]:
        """Take one message, if there is one; a connection that its other side has ended is closed."""
        descriptors: array.array[int] = array.array("i")
        try:
            data, ancillary, flags, _ = client.recvmsg(MAX_MESSAGE_BYTES, socket.CMSG_SPACE(MAX_DESCRIPTORS * 4))
        except BlockingIOError:
            return "nothing"
        except OSError:
            data, ancillary, flags = b"", [], 0
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
        try:
            if not data:
                self._clients.discard(client)
                client.close()
                return "closed"
            if data == VIA_FILE and descriptors:
                data = os.pread(descriptors[0], MAX_MESSAGE_BYTES, 0)
            if not flags & socket.MSG_TRUNC:
                self._take(data)
        except OSError:
            return "message"  # a descriptor that cannot be read
        finally:
            for descriptor in descriptors:
                with suppress(OSError):
                    os.close(descriptor)
        return "message"

    def _take(self, data: bytes) -> None:
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            return
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
