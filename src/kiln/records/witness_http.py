"""A witness behind HTTP, for a machine of its own. One thread, one address; put TLS in front of it."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Final

from kiln.records.witness import ADD_CHECKPOINT, BAD_REQUEST, MAX_REQUEST_BYTES, NOT_FOUND, Answer, Witness

READ_TIMEOUT_SECONDS: Final = 30


def serve(witness: Witness, address: tuple[str, int], clock: Callable[[], int]) -> HTTPServer:
    """Return a server that answers for *witness*; the caller runs it. Raises OSError if the address is taken."""

    class Handler(BaseHTTPRequestHandler):
        timeout = READ_TIMEOUT_SECONDS

        def do_POST(self) -> None:
            """Answer add-checkpoint."""
            length = self.headers.get("Content-Length", "")
            if self.path != ADD_CHECKPOINT:
                self._answer(Answer(NOT_FOUND, b""))
            elif not length.isdigit() or int(length) > MAX_REQUEST_BYTES:
                self._answer(Answer(BAD_REQUEST, b"a length of at most 128 KiB is needed\n"))
            else:
                self._answer(witness.add_checkpoint(self.rfile.read(int(length)), now=clock()))

        def log_message(self, *_arguments: object) -> None:
            """Say nothing: library code does not log."""

        def _answer(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

    return HTTPServer(address, Handler)
