"""JSON documents in packets of Unix sockets, and a server for them: how programs of osbuild's contract talk.

One document is one packet (SOCK_SEQPACKET). What is too large for one travels as a memory file: the packet is then
`<args-via-fd>`, and descriptors that belong to the document follow that of the file. Whatever arrives is a stranger's.
"""

from __future__ import annotations

import array
import json
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

VIA_FILE: Final = b"<args-via-fd>"
MAX_PACKET_BYTES: Final = 1024 * 1024
"""More than the kernel's largest send buffer by default (net.core.wmem_max is 208 KiB)."""
MAX_DOCUMENT_BYTES: Final = 256 * 1024 * 1024
MAX_DESCRIPTORS: Final = 253
"""SCM_MAX_FD: what the kernel takes in one packet."""
MAX_CLIENTS: Final = 64

Handler = Callable[[Any, Sequence[int]], object]
"""Gets a document and its descriptors, which are closed afterwards; an answer that is not None is sent back."""


def new_pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)


def send(sock: socket.socket, document: object, descriptors: Sequence[int] = ()) -> None:
    """Send a document and descriptors. Raises OSError."""
    data = json.dumps(document).encode()
    # The kernel counts its own book-keeping too, hence the half.
    if len(data) <= sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2:
        socket.send_fds(sock, [data], list(descriptors))
        return
    file = os.memfd_create("jsoncomm", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(file), "wb") as writer:
            writer.write(data)
        os.lseek(file, 0, os.SEEK_SET)
        socket.send_fds(sock, [VIA_FILE], [file, *descriptors])
    finally:
        os.close(file)


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return one document's bytes and its descriptors, which the caller closes; no bytes mean the end.

    Raises BlockingIOError, other OSError; ValueError for a packet that was cut.
    """
    numbers: array.array[int] = array.array("i")
    space = socket.CMSG_SPACE(MAX_DESCRIPTORS * numbers.itemsize)
    data, ancillary, flags, _ = sock.recvmsg(MAX_PACKET_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    descriptors = list(numbers)
    try:
        if flags & socket.MSG_TRUNC:
            raise ValueError("the packet is too large")
        if data == VIA_FILE and descriptors:
            data = _read_file(descriptors.pop(0))
    except BaseException:
        close(descriptors)
        raise
    return data, descriptors


def close(descriptors: Sequence[int]) -> None:
    """Close descriptors that came with a document."""
    for descriptor in descriptors:
        with suppress(OSError):
            os.close(descriptor)


class PacketServer:
    """Sockets that others connect to; each document goes to the handler of the socket that it came by.

    It has no loop of its own: whoever waits for a program also waits for `listeners` and for what `accept` returns.
    """

    def __init__(self) -> None:
        self._handlers: dict[socket.socket, Handler] = {}
        self._clients: dict[socket.socket, Handler] = {}

    @property
    def listeners(self) -> tuple[socket.socket, ...]:
        """The sockets that become readable when somebody connects."""
        return tuple(self._handlers)

    @property
    def clients(self) -> tuple[socket.socket, ...]:
        """The open connections."""
        return tuple(self._clients)

    def listen(self, directory: Path, name: str, handler: Handler) -> None:
        """Listen on the socket *name* in *directory*. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._handlers[listener] = handler
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # The address of a Unix socket has 107 bytes; a path through a descriptor always fits.
            listener.bind(f"/proc/thread-self/fd/{descriptor}/{name}")
        finally:
            os.close(descriptor)
        listener.listen()
        listener.setblocking(False)

    def close(self) -> None:
        """Close every connection."""
        for entry in (*self._clients, *self._handlers):
            entry.close()

    def accept(self, listener: socket.socket) -> socket.socket | None:
        """Return a new connection, or None where there is none or there are too many."""
        try:
            client, _ = listener.accept()
        except OSError:
            return None
        if len(self._clients) >= MAX_CLIENTS:
            client.close()
            return None
        client.setblocking(False)
        self._clients[client] = self._handlers[listener]
        return client

    def drain(self) -> None:
        """Take everything that was sent before the program ended."""
        for listener in self._handlers:
            while self.accept(listener) is not None:
                pass
        for client in list(self._clients):
            while self.receive(client) == "message":
                pass

    def receive(self, client: socket.socket) -> Literal["message", "nothing", "closed"]:
        """Take one document, if there is one; a connection that its other side has ended is closed."""
        descriptors: list[int] = []
        try:
            data, descriptors = receive(client)
        except BlockingIOError:
            return "nothing"
        except ValueError:
            return "message"
        except OSError:
            data = b""
        try:
            if not data:
                self._clients.pop(client, None)
                client.close()
                return "closed"
            self._handle(client, data, descriptors)
        finally:
            close(descriptors)
        return "message"

    def _handle(self, client: socket.socket, data: bytes, descriptors: Sequence[int]) -> None:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            return
        answer = self._clients[client](document, descriptors)
        if answer is not None:
            with suppress(OSError):
                send(client, answer)


def _read_file(descriptor: int) -> bytes:
    try:
        size = os.fstat(descriptor).st_size
        if size > MAX_DOCUMENT_BYTES:
            raise ValueError("the document is too large")
        pieces = []
        position = 0
        while piece := os.pread(descriptor, MAX_PACKET_BYTES, position):
            pieces.append(piece)
            position += len(piece)
            if position > MAX_DOCUMENT_BYTES:
                raise ValueError("the document is too large")
        return b"".join(pieces)
    except OSError as error:
        raise ValueError(f"the document cannot be read: {error}") from None
    finally:
        os.close(descriptor)
