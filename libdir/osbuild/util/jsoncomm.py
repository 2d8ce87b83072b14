"""JSON documents in packets of a Unix socket, as osbuild's programs exchange them (Python 3.6, standard library).

One document is one packet. A document that is larger than a packet may be is sent as `<args-via-fd>` with a
memory file whose content it is; descriptors that belong to the document follow it.
"""

import array
import json
import os
import socket
import tempfile

VIA_FILE = b"<args-via-fd>"
MAX_FDS = 253  # what the kernel takes in one packet (SCM_MAX_FD)
FIRST_BUFFER = 4096


def send(sock, document, fds=()):
    """Send *document* and the descriptors *fds*."""
    data = json.dumps(document).encode("utf-8")
    # The kernel refuses a packet that is larger than the send buffer, in which it counts its own book-keeping too.
    if len(data) <= sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2:
        _send(sock, data, list(fds))
        return
    with tempfile.TemporaryFile() if not hasattr(os, "memfd_create") else _memory_file() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        _send(sock, VIA_FILE, [file.fileno()] + list(fds))


def send_once(path, document):
    """Connect to the socket *path*, send one document, and disconnect."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as sock:
        sock.connect(path)
        send(sock, document)


def receive(sock):
    """Return (document, FdSet, address of the sender); the document is None when the other side has gone."""
    size = FIRST_BUFFER
    while len(sock.recv(size, socket.MSG_PEEK)) == size:  # a full buffer may be a cut packet
        size *= 2
    data, ancillary, _, address = sock.recvmsg(size, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    file = numbers.pop(0) if data == VIA_FILE and numbers else None
    fds = FdSet(rawfds=numbers)
    if not data:
        return None, fds, None
    if file is not None:
        with os.fdopen(file, "rb") as opened:
            opened.seek(0)
            data = opened.read()
    return json.loads(data.decode("utf-8")), fds, address


class FdSet:
    """Descriptors that came with a document; those that nobody takes are closed with the set."""

    def __init__(self, *, rawfds):
        for number in rawfds:
            if not isinstance(number, int) or number < 0:
                raise ValueError("%r is no descriptor" % (number,))
        self._fds = array.array("i", rawfds)

    def __del__(self):
        self.close()

    def __len__(self):
        return len(self._fds)

    def __getitem__(self, index):
        number = self._fds[index]
        if number < 0:
            raise IndexError("descriptor %d has been taken" % index)
        return number

    def close(self):
        """Close what is left."""
        for index, number in enumerate(self._fds):
            if number >= 0:
                os.close(number)
                self._fds[index] = -1

    def steal(self, index):
        """Return a descriptor, which the caller then owns."""
        number = self[index]
        self._fds[index] = -1
        return number

    @classmethod
    def from_list(cls, fds):
        """Make a set of the descriptors in a list."""
        return cls(rawfds=array.array("i", fds))


class Socket:
    """A socket of packets with JSON documents. `recv` gives None for a document when the other side has gone."""

    def __init__(self, sock, unlink=None):
        self._socket = sock
        self._unlink = unlink  # (directory descriptor, name) of a listener's address

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        return False

    @staticmethod
    def _new():
        return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)

    @classmethod
    def new_client(cls, connect_to=None):
        """Return a socket with an address of its own, connected if *connect_to* is given."""
        sock = cls._new()
        try:
            sock.bind("")  # the kernel chooses an abstract address
            if connect_to is not None:
                sock.connect(os.fspath(connect_to))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @classmethod
    def new_server(cls, bind_to):
        """Return a socket with the address *bind_to*, which is removed when it is closed."""
        sock, directory = cls._new(), None
        path = os.path.abspath(os.fspath(bind_to))
        try:
            directory = os.open(os.path.dirname(path), os.O_CLOEXEC | os.O_PATH)
            sock.bind(path)
            return cls(sock, (directory, os.path.basename(path)))
        except BaseException:
            if directory is not None:
                os.close(directory)
            sock.close()
            raise

    @classmethod
    def new_pair(cls, *, blocking=True):
        """Return two sockets that are connected to each other."""
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for sock in pair:
            sock.setblocking(blocking)
        return cls(pair[0]), cls(pair[1])

    @classmethod
    def new_from_fd(cls, fd, *, blocking=True, close_fd=True):
        """Return a socket for a descriptor, which is closed if *close_fd* (the socket has a duplicate)."""
        sock = socket.fromfd(fd, socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(blocking)
        if close_fd:
            os.close(fd)
        return cls(sock)

    @property
    def blocking(self):
        """Whether calls wait."""
        return self._socket.getblocking() if hasattr(self._socket, "getblocking") else self._socket.gettimeout() != 0.0

    @blocking.setter
    def blocking(self, value):
        self._socket.setblocking(value)

    def close(self):
        """Close it; a listener's address goes with it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._unlink is not None:
            (directory, name), self._unlink = self._unlink, None
            try:
                os.unlink(name, dir_fd=directory)
            except OSError:
                pass
            os.close(directory)

    def fileno(self):
        """Return the descriptor."""
        return self._socket.fileno()

    def listen(self, backlog=16):
        """Let others connect."""
        self._socket.listen(backlog)

    def accept(self):
        """Return a new connection, or None if nobody waits and the socket does not block."""
        try:
            sock, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        sock.setblocking(True)
        return Socket(sock)

    def recv(self):
        """Return (document, FdSet, address)."""
        return receive(self._socket)

    def send(self, payload, *, fds=None):
        """Send a document with descriptors (a list or an FdSet)."""
        send(self._socket, payload, [] if fds is None else [fds[index] for index in range(len(fds))])

    def send_and_recv(self, payload, *, fds=None):
        """Send a document and return what `recv` gives for the answer."""
        self.send(payload, fds=fds)
        return self.recv()


def _send(sock, data, fds):
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary)


def _memory_file():
    return os.fdopen(os.memfd_create("jsoncomm"), "w+b")
