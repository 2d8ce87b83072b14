"""Frames on two descriptors: a kind, a length, a checksum, and what the kind needs.

    frame = kind (1 byte), length of the payload (4 bytes, big-endian), CRC-32 of both and payload (4 bytes), payload

The checksum finds transports that change bytes (a terminal, a wrapper that prints); it is no protection, SSH is.
"""

from __future__ import annotations

import json
import os
import select
import struct
import threading
import time
import zlib
from contextlib import suppress
from enum import Enum
from typing import Any, Final

from kiln.engine.execution.remote.errors import ConnectionLostError, protocol_error

HEADER: Final = struct.Struct(">BII")
MAX_DATA_BYTES: Final = 1024 * 1024
MAX_DOCUMENT_BYTES: Final = 192 * 1024 * 1024
"""Metadata of a stage has up to 64 MiB, and JSON may need more than one byte for each of them."""
READ_BYTES: Final = 256 * 1024
PINGS_PER_SILENCE: Final = 4


class Kind(Enum):
    """What a frame is."""

    HELLO = ord("H")
    JOB = ord("J")
    NEED = ord("N")
    READY = ord("R")
    DATA = ord("D")
    END = ord("E")
    EVENT = ord("V")
    OUTCOME = ord("O")
    REFUSAL = ord("X")
    PING = ord("P")


LIMITS: Final = {Kind.DATA: MAX_DATA_BYTES, Kind.END: 0, Kind.PING: 0, Kind.READY: 0}
"""The longest payload of a kind; for what is not here, that of a document."""


def frame(kind: Kind, payload: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    head = HEADER.pack(kind.value, len(payload), 0)[:5]
    return head + zlib.crc32(payload, zlib.crc32(head)).to_bytes(4, "big") + payload


class WokenError(Exception):
    """A descriptor that was watched beside the channel has become readable."""


class Channel:
    """Frames over *reading* and *writing*, which stay the caller's. Sending is safe from several threads.

    Who hears nothing for *silence_seconds*, or cannot send for so long, takes the other side for lost. Once the
    descriptor *cancel* is readable, everything that would wait raises WokenError.
    """

    def __init__(self, reading: int, writing: int, silence_seconds: float, cancel: int | None = None) -> None:
        self._reading = reading
        self._writing = writing
        self._cancel = cancel
        self.silence_seconds = silence_seconds
        self._buffer = bytearray()
        self._sending = threading.Lock()
        self._closed = threading.Event()
        self._heart: threading.Thread | None = None
        os.set_blocking(writing, False)

    def start_pinging(self) -> None:
        """Say `ping` regularly from now on, until `close`."""
        self._heart = threading.Thread(target=self._ping, name="remote-ping", daemon=True)
        self._heart.start()

    def close(self) -> None:
        """Send nothing more. Safe to call again."""
        self._closed.set()
        if self._heart is not None:
            self._heart.join()

    def send(self, kind: Kind, payload: bytes = b"") -> None:
        """Send a frame. Raises ConnectionLostError, WokenError."""
        self._write(frame(kind, payload))

    def send_document(self, kind: Kind, document: object) -> None:
        """Send a JSON document. Raises as `send` does."""
        self.send(kind, json.dumps(document, separators=(",", ":")).encode("ascii"))

    def receive(self, watch: int | None = None) -> tuple[Kind, bytes]:
        """Return the next frame that is no `ping`.

        Raises WokenError once the descriptor *watch* is readable, ConnectionLostError, KilnError(ENGINE,
        "remote-protocol").
        """
        while True:
            kind, payload = self._receive(watch)
            if kind is not Kind.PING:
                return kind, payload

    def expect(self, *kinds: Kind, watch: int | None = None) -> tuple[Kind, bytes]:
        """Return the next frame, which must be of one of *kinds*. Raises as `receive` does."""
        kind, payload = self.receive(watch)
        if kind not in kinds:
            raise protocol_error(f"{kind.name} came where {' or '.join(known.name for known in kinds)} belongs")
        return kind, payload

    def _receive(self, watch: int | None) -> tuple[Kind, bytes]:
        self._fill(HEADER.size, watch)
        number, length, checksum = HEADER.unpack_from(self._buffer)
        try:
            kind = Kind(number)
        except ValueError:
            raise protocol_error(f"{bytes(self._buffer[:80])!r} is no frame") from None
        if length > LIMITS.get(kind, MAX_DOCUMENT_BYTES):
            raise protocol_error(f"a frame of {length} bytes ({kind.name})")
        self._fill(HEADER.size + length, watch)
        payload = bytes(memoryview(self._buffer)[HEADER.size : HEADER.size + length])
        if zlib.crc32(payload, zlib.crc32(self._buffer[:5])) != checksum:
            raise protocol_error(f"a frame ({kind.name}) was changed on the way")
        del self._buffer[: HEADER.size + length]
        return kind, payload

    def _fill(self, count: int, watch: int | None) -> None:
        while len(self._buffer) < count:
            if not self._wait(self._reading, select.POLLIN, watch):
                raise ConnectionLostError(f"nothing was heard for {self.silence_seconds:g} s")
            try:
                data = os.read(self._reading, READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise ConnectionLostError(str(error)) from None
            if not data:
                raise ConnectionLostError("the connection was closed")
            self._buffer += data

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        with self._sending:
            while view:
                if not self._wait(self._writing, select.POLLOUT, None):
                    raise ConnectionLostError(f"nothing could be sent for {self.silence_seconds:g} s")
                try:
                    view = view[os.write(self._writing, view) :]
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise ConnectionLostError(str(error)) from None

    def _wait(self, descriptor: int, events: int, watch: int | None) -> bool:
        """Wait for *descriptor*; False after the time of silence. Raises WokenError."""
        poll = select.poll()
        poll.register(descriptor, events)
        others = {other for other in (watch, self._cancel) if other is not None}
        for other in others:
            poll.register(other, select.POLLIN)
        deadline = time.monotonic() + self.silence_seconds
        while True:
            found = {ready for ready, _ in poll.poll(max(0.0, deadline - time.monotonic()) * 1000)}
            if found & others:
                raise WokenError
            if found or time.monotonic() >= deadline:
                return bool(found)

    def _ping(self) -> None:
        while not self._closed.wait(self.silence_seconds / PINGS_PER_SILENCE):
            with suppress(ConnectionLostError, WokenError):
                self.send(Kind.PING)


class DataWriter:
    """Sends a stream of bytes as frames; *written* counts them. `finish` says that it is complete."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._kept = bytearray()
        self.written = 0

    def write(self, data: bytes) -> None:
        """Send *data*, sooner or later. Raises as `Channel.send` does."""
        self._kept += data
        self.written += len(data)
        while len(self._kept) >= MAX_DATA_BYTES:
            self._flush()

    def finish(self) -> None:
        """Send what is left, and the end. Raises as `write` does."""
        if self._kept:
            self._flush()
        self._channel.send(Kind.END)

    def _flush(self) -> None:
        self._channel.send(Kind.DATA, bytes(self._kept[:MAX_DATA_BYTES]))
        del self._kept[:MAX_DATA_BYTES]


class DataReader:
    """Reads a stream of bytes that came as frames. *watch* as in `Channel.receive`."""

    def __init__(self, channel: Channel, watch: int | None = None) -> None:
        self._channel = channel
        self._watch = watch
        self._left = bytearray()
        self._ended = False
        self.read_bytes = 0

    def read(self, count: int) -> bytes:
        """Return *count* bytes, fewer only at the end. Raises as `Channel.receive` does."""
        while len(self._left) < count and not self._ended:
            kind, payload = self._channel.expect(Kind.DATA, Kind.END, watch=self._watch)
            self._ended = kind is Kind.END
            self._left += payload
        data = bytes(memoryview(self._left)[:count])
        del self._left[:count]
        self.read_bytes += len(data)
        return data

    def finish(self) -> None:
        """Take the end. Raises KilnError(ENGINE, "remote-protocol") if there is more."""
        if self.read(1):
            raise protocol_error("a stream goes on after its end")


def read_document(payload: bytes) -> Any:
    """Return the JSON document of a frame. Raises KilnError(ENGINE, "remote-protocol")."""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise protocol_error(f"a document is not JSON: {error}") from None
