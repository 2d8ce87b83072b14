"""JSON documents in packets of a Unix socket, as osbuild's programs exchange them (Python 3.6, standard library).

One document is one packet. A document that is larger than a packet may be is sent as `<args-via-fd>` with a
memory file whose content it is.
"""

import array
import json
import os
import socket
import tempfile

VIA_FILE = b"<args-via-fd>"


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


def _send(sock, data, fds):
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], ancillary)


def _memory_file():
    return os.fdopen(os.memfd_create("jsoncomm"), "w+b")
