"""QEMU's machine protocol (docs/interop/qmp-spec.txt), as much of it as a test needs."""

from __future__ import annotations

import json
import re
import socket
from typing import Any, Final

from kiln.errors import Domain, ExitStatus, KilnError

ANSWER_SECONDS: Final = 15.0
"""QEMU answers at once; a host under load may be slow to schedule it."""

_FORWARD: Final = re.compile(r"^\s*TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)\s", re.MULTILINE)


class Monitor:
    """A conversation with one QEMU over a connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(ANSWER_SECONDS)
        self._connection = connection
        self._lines = connection.makefile("rb")

    def greet(self) -> None:
        """Read the greeting and leave negotiation. Raises KilnError(TRIAL, "emulator-failed")."""
        if "QMP" not in self._read():
            raise _failed("QEMU did not greet on its monitor")
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: object) -> Any:
        """Return the answer to *command*. Raises KilnError(TRIAL, "emulator-failed") for a refusal or silence."""
        message = {"execute": command, "arguments": arguments}
        try:
            self._connection.sendall(json.dumps(message).encode("utf-8") + b"\n")
        except OSError as error:
            raise _failed(f"QEMU closed its monitor before `{command}`", str(error)) from error
        while True:
            answer = self._read()
            if "error" in answer:
                raise _failed(f"QEMU refused `{command}`", str(answer["error"].get("desc", "")))
            if "return" in answer:
                return answer["return"]
            # Anything else is an event; none matters here.

    def forwarded_ports(self) -> dict[int, int]:
        """Return guest port -> port on the host's loopback, as the kernel gave them."""
        return parse_forwards(self.execute("human-monitor-command", **{"command-line": "info usernet"}))

    def _read(self) -> dict[str, Any]:
        try:
            line = self._lines.readline()
        except OSError as error:
            raise _failed("QEMU does not answer on its monitor", str(error)) from error
        if not line:
            raise _failed("QEMU ended")
        answer = json.loads(line)
        return answer if isinstance(answer, dict) else {}


def parse_forwards(table: str) -> dict[int, int]:
    """Read the table of `info usernet`."""
    return {int(guest): int(host) for host, guest in _FORWARD.findall(table)}


def _failed(message: str, detail: str = "") -> KilnError:
    return KilnError(
        Domain.TRIAL, "emulator-failed", message, detail=detail, exit_status=ExitStatus.INFRASTRUCTURE, retriable=True
    )
