"""How messages come and go: lines on standard streams, or HTTP on the loopback."""

from __future__ import annotations

import hmac
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO, Final

from kiln.control_plane.mcp.protocol import MAX_MESSAGE_BYTES, Conversation

PATH: Final = "/mcp"
LOOPBACK: Final = "127.0.0.1"
NAMES: Final = ("127.0.0.1", "localhost", "[::1]")


def serve_streams(conversation: Conversation, reader: BinaryIO, writer: BinaryIO) -> None:
    """Answer one message a line until *reader* ends."""
    while line := reader.readline(MAX_MESSAGE_BYTES + 2):
        if not line.strip():
            continue
        answer = conversation.answer(line)
        if answer is not None:
            writer.write(answer + b"\n")
            writer.flush()


def http_server(conversation: Conversation, token: str, port: int = 0) -> ThreadingHTTPServer:
    """Return a server on the loopback; a request needs *token* (RFC 6750) and must not come from a web page."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            host = self.headers.get("host", "").rpartition(":")[0] or self.headers.get("host", "")
            sent = self.headers.get("authorization", "").removeprefix("Bearer ")
            length = self.headers.get("content-length", "")
            if self.path != PATH:
                return self._end(HTTPStatus.NOT_FOUND)
            # A page of another site could make a browser ask here, by a name of its own for this address.
            if host not in NAMES or self.headers.get("origin") is not None:
                return self._end(HTTPStatus.FORBIDDEN)
            if not hmac.compare_digest(sent.encode(), token.encode()):
                return self._end(HTTPStatus.UNAUTHORIZED)
            if not length.isdecimal() or int(length) > MAX_MESSAGE_BYTES:
                return self._end(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            answer = conversation.answer(self.rfile.read(int(length)))
            return self._end(HTTPStatus.ACCEPTED if answer is None else HTTPStatus.OK, answer or b"")

        def _end(self, status: HTTPStatus, body: bytes = b"") -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: what is asked is nobody else's business."""

    return ThreadingHTTPServer((LOOPBACK, port), Handler)
