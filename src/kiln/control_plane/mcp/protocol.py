"""JSON-RPC 2.0 messages of the Model Context Protocol, and what is answered to each. No input or output of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from kiln.control_plane.mcp.tools import Tool
from kiln.errors import KilnError

PROTOCOL_VERSION: Final = "2025-03-26"
MAX_MESSAGE_BYTES: Final = 1024 * 1024
PARSE_ERROR: Final = -32700  # JSON-RPC 2.0, section 5.1
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602

Json = dict[str, Any]


class Conversation:
    """Answers messages, with *tools* by name."""

    def __init__(self, tools: Mapping[str, Tool], version: str) -> None:
        self._tools = tools
        self._version = version

    def answer(self, data: bytes) -> bytes | None:
        """Return the answer to one message, None for a notification."""
        if len(data) > MAX_MESSAGE_BYTES:
            return _bytes(_fault(None, PARSE_ERROR, "the message is too long"))
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            return _bytes(_fault(None, PARSE_ERROR, "not JSON"))
        if (
            not isinstance(message, dict)
            or message.get("jsonrpc") != "2.0"
            or not isinstance(message.get("method"), str)
        ):
            return _bytes(_fault(None, INVALID_REQUEST, "not a JSON-RPC 2.0 request"))
        if "id" not in message:
            return None
        params = message.get("params", {})
        if not isinstance(params, dict):
            return _bytes(_fault(message["id"], INVALID_PARAMS, "params must be an object"))
        return _bytes(self._respond(message["id"], message["method"], params))

    def _respond(self, number: object, method: str, params: Json) -> Json:
        if method == "initialize":
            return _result(
                number,
                {
                    "protocolVersion": PROTOCOL_VERSION,
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "kiln", "version": self._version},
                },
            )
        if method == "ping":
            return _result(number, {})
        if method == "tools/list":
            return _result(number, {"tools": [tool.description() for tool in self._tools.values()]})
        if method != "tools/call":
            return _fault(number, METHOD_NOT_FOUND, f"no method `{method[:60]}`")
        tool = self._tools.get(str(params.get("name")))
        arguments = params.get("arguments", {})
        if tool is None or not isinstance(arguments, dict):
            return _fault(number, INVALID_PARAMS, "no such tool, or its arguments are no object")
        problem = tool.fault(arguments)
        if problem:
            return _fault(number, INVALID_PARAMS, problem)
        try:
            return _result(number, _content(tool.run(arguments), failed=False))
        except KilnError as error:
            # What the agent can mend is an answer, not a fault of the protocol.
            return _result(number, _content(error.to_document(), failed=True))


def _content(document: object, *, failed: bool) -> Json:
    return {"content": [{"type": "text", "text": json.dumps(document, ensure_ascii=False)}], "isError": failed}


def _result(number: object, result: Json) -> Json:
    return {"jsonrpc": "2.0", "id": number, "result": result}


def _fault(number: object, code: int, message: str) -> Json:
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": message}}


def _bytes(message: Json) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
