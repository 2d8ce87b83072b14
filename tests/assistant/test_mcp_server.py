"""The Model Context Protocol: messages, tools, streams, HTTP on the loopback."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.authoring.catalog.data import catalog_folder, load_catalog
from kiln.control_plane.mcp.protocol import Conversation
from kiln.control_plane.mcp.service import Service
from kiln.control_plane.mcp.transport import http_server, serve_streams
from kiln.control_plane.settings import Settings

NOWHERE = Path("/nonexistent-kiln")
SERVICE = Service(load_catalog(catalog_folder({})), Settings(NOWHERE), {}, NOWHERE)
CONVERSATION = Conversation(SERVICE.tools(), "0")
TOKEN = "t" * 40
CALL = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "%s", "arguments": %s}}'


def call(method: str, **params: Any) -> Any:
    message = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    answer = CONVERSATION.answer(json.dumps(message).encode())
    assert answer is not None
    document = json.loads(answer)
    assert (document["jsonrpc"], document["id"]) == ("2.0", 7)
    return document


def tool(name: str, **arguments: Any) -> Any:
    result = call("tools/call", name=name, arguments=arguments)["result"]
    return json.loads(result["content"][0]["text"]), result["isError"]


def test_a_client_is_greeted_and_told_of_the_tools() -> None:
    assert call("initialize", protocolVersion="2025-03-26")["result"]["serverInfo"]["name"] == "kiln"
    assert CONVERSATION.answer(b'{"jsonrpc": "2.0", "method": "notifications/initialized"}') is None
    tools = call("tools/list")["result"]["tools"]
    names = "search_features propose_recipe validate explain preview build status"
    assert [item["name"] for item in tools] == names.split()
    assert all(item["inputSchema"]["additionalProperties"] is False for item in tools)
    assert call("ping")["result"] == {}


def test_features_are_found_by_words() -> None:
    found, failed = tool("search_features", words="share files with windows")
    assert not failed
    assert "samba" in [item["id"] for item in found]
    assert tool("search_features", words="dokcer")[0][0]["id"] == "docker"
    assert tool("search_features", words="")[0] == []


def test_a_sentence_becomes_a_recipe_that_can_be_validated_and_explained() -> None:
    proposed, failed = tool("propose_recipe", sentence="hardened ssh, no docker")
    assert not failed
    recipe = json.dumps(proposed["recipe"])
    valid, _ = tool("validate", request=recipe)
    assert valid["recipeDigest"] == proposed["recipeDigest"]
    assert {"ssh", "firewall"} <= set(valid["features"])
    explained, _ = tool("explain", request="hardened ssh", thing="22")
    assert explained[0]["reason"]["chain"] == ['request "ssh"', "feature ssh"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"request": "quantum toaster"}, "nothing-understood"),
        ({"request": '{"base": "debian-12", "fetures": []}'}, "unknown-key"),
        ({"request": "{"}, "syntax"),
        ({"request": '{"base": "debian-12", "features": ["docker", "podman"]}'}, "feature-conflict"),
    ],
)
def test_what_is_wrong_is_an_answer_with_its_reason(arguments: dict[str, str], reason: str) -> None:
    document, failed = tool("validate", **arguments)
    assert failed
    assert document["reason"] == reason


def test_nothing_is_built_without_a_confirmation_of_exactly_that_recipe() -> None:
    first, _ = tool("build", request="ssh")
    assert first["needsConfirmation"] is True
    again, _ = tool("build", request="ssh and nginx", confirm=first["confirm"])
    assert again["needsConfirmation"] is True
    assert tool("status") == ([], False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", -32700),
        (b"[1]", -32600),
        (b'{"id": 1}', -32600),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "x"}', -32601),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "rm"}}', -32602),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "build"}}', -32602),
        (CALL % (b"status", b'{"x": 1}'), -32602),
        (CALL % (b"validate", b'{"request": 1}'), -32602),
        (b" " * 1_100_000, -32700),
        (b"[" * 100_000, -32700),
    ],
)  # fmt: skip
def test_a_wrong_message_has_its_code(data: bytes, code: int) -> None:
    answer = CONVERSATION.answer(data)
    assert answer is not None
    assert json.loads(answer)["error"]["code"] == code


@given(st.binary(max_size=80))
def test_any_bytes_are_answered(data: bytes) -> None:
    answer = CONVERSATION.answer(data)
    assert answer is None or json.loads(answer)["jsonrpc"] == "2.0"


def test_lines_come_and_go_on_streams() -> None:
    lines = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n\n{"jsonrpc":"2.0","method":"x"}\nnonsense\n'
    out = io.BytesIO()
    serve_streams(CONVERSATION, io.BytesIO(lines), out)
    answers = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [item.get("id") for item in answers] == [1, None]


def test_http_needs_the_token_and_no_web_page() -> None:
    ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    with http_server(CONVERSATION, TOKEN) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}/mcp"
        good = {"authorization": f"Bearer {TOKEN}"}
        try:
            answer = httpx.post(url, content=ping, headers=good)
            assert (answer.status_code, answer.json()["result"]) == (200, {})
            notification = b'{"jsonrpc":"2.0","method":"x"}'
            assert httpx.post(url, content=notification, headers=good).status_code == 202
            assert httpx.post(url, content=ping).status_code == 401
            assert httpx.post(url, content=ping, headers={"authorization": "Bearer x"}).status_code == 401
            assert httpx.post(url, content=ping, headers=good | {"origin": "http://evil"}).status_code == 403
            assert httpx.post(url, content=ping, headers=good | {"host": "evil:80"}).status_code == 403
            assert httpx.post(url + "x", content=ping, headers=good).status_code == 404
            assert httpx.post(url, content=b"x" * 1_100_000, headers=good).status_code == 413
        finally:
            server.shutdown()
            thread.join()
