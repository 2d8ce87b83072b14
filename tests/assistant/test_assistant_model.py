"""A model reads a request: two ways of asking, against a server on the loopback, and what is made of its answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from kiln.authoring.catalog.data import catalog_folder, load_catalog
from kiln.authoring.describe.interpret import interpret
from kiln.authoring.describe.model import DescribeDefaults
from kiln.authoring.describe.refine import refine
from kiln.authoring.recipe.difference import difference
from kiln.authoring.recipe.load import read_recipe
from kiln.control_plane.assistant.assist import answer_schema, read_with_model, required_model
from kiln.control_plane.assistant.model import ModelReading
from kiln.control_plane.settings import ModelSettings, Settings, load_settings
from kiln.errors import Domain, KilnError

CATALOG = load_catalog(catalog_folder({}))
SETTINGS = Settings(Path("/nowhere"))
DEFAULTS = DescribeDefaults("debian-12", "standard")
KEY = "not-a-real-key"


class StandIn(ThreadingHTTPServer):
    """Speaks both protocols and says what the test wants."""

    answer: Any = {"features": []}
    status = 200
    seen: list[tuple[str, dict[str, str], Any]]
    raw: bytes | None = None


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        text = json.dumps(self.server.answer)
        document = (
            {"content": [{"type": "text", "text": "well"}, {"type": "tool_use", "input": self.server.answer}]}
            if self.path == "/v1/messages"
            else {"choices": [{"message": {"content": text}}]}
        )
        data = self.server.raw if self.server.raw is not None else json.dumps(document).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[StandIn]:
    found = StandIn(("127.0.0.1", 0), Handler)
    found.seen = []
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def asked(server: StandIn, provider: str, text: str = "ssh and docker") -> ModelReading:
    model = ModelSettings(provider, f"http://127.0.0.1:{server.server_address[1]}", "small-1", "env:MODEL_KEY")  # type: ignore[arg-type]
    said = interpret(text, CATALOG, DEFAULTS)
    return read_with_model(said, said.recipe, CATALOG, SETTINGS, model, {"MODEL_KEY": KEY})


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_an_answer_becomes_a_recipe_with_its_difference_and_evidence(server: StandIn, provider: str) -> None:
    server.answer = {"features": [{"id": "ssh", "options": {"port": 2222}}, {"id": "podman"}], "diskSize": "20G",
                     "hostname": "web1", "hardening": "strict", "users": ["alice"], "name": ""}  # fmt: skip
    reading = asked(server, provider)
    assert [(choice.id, dict(choice.options)) for choice in reading.recipe.features] == [
        ("ssh", {"port": 2222}),
        ("podman", {}),
    ]
    assert (reading.recipe.disk.size_bytes, reading.recipe.networking.hostname) == (20 * 1024**3, "web1")
    assert {"- features.docker", "+ features.podman", "+ features.ssh.options.port = 2222"} <= set(reading.difference)
    assert reading.evidence["model"] == "small-1"
    assert reading.evidence["answer"] == server.answer
    assert str(reading.evidence["promptDigest"]).startswith("sha256:")
    assert KEY not in json.dumps(reading.evidence)
    path, headers, body = server.seen[0]
    sent = json.dumps(body)
    assert KEY not in sent
    assert '"ssh and docker"' in sent
    schema = (
        body["tools"][0]["input_schema"]
        if provider == "anthropic"
        else body["response_format"]["json_schema"]["schema"]
    )
    assert schema == answer_schema(CATALOG)
    ids = schema["properties"]["features"]["items"]["properties"]["id"]["enum"]
    assert set(ids) == {feature.id for feature in CATALOG.features}
    if provider == "anthropic":
        assert (path, headers["x-api-key"]) == ("/v1/messages", KEY)
    else:
        assert (path, headers["authorization"]) == ("/v1/chat/completions", f"Bearer {KEY}")


def test_the_same_reading_has_no_difference(server: StandIn) -> None:
    server.answer = {"features": [{"id": "ssh"}, {"id": "docker"}]}
    assert asked(server, "openai").difference == ()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"features": [{"id": "rootkit"}]}, "unknown-feature"),
        ({"features": [], "packages": ["netcat; rm -rf /"]}, "bad-value"),
        ({"features": [], "startup": "curl x | sh"}, "unknown-key"),
        ({"features": [], "base": "debian-99"}, "unknown-base"),
        ({"features": [], "users": ["root"]}, "bad-value"),
        ([], "bad-model-answer"),
        ("no", "bad-model-answer"),
    ],
)
def test_an_answer_goes_through_the_same_checks_as_a_recipe(server: StandIn, answer: Any, reason: str) -> None:
    server.answer = answer
    with pytest.raises(KilnError) as caught:
        asked(server, "openai")
    assert caught.value.reason == reason


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b'{"choices": []}', b'{"content": []}', b"\xff", b"x" * 2_000_000])
def test_an_answer_that_cannot_be_read_is_refused(server: StandIn, provider: str, raw: bytes) -> None:
    server.raw = raw
    with pytest.raises(KilnError) as caught:
        asked(server, provider)
    assert (caught.value.domain, caught.value.reason) == (Domain.DESCRIBE, "bad-model-answer")


@pytest.mark.parametrize(("status", "retriable"), [(401, False), (404, False), (429, True), (500, True), (529, True)])
def test_a_server_that_refuses_is_named_by_its_status(server: StandIn, status: int, retriable: bool) -> None:
    server.status = status
    with pytest.raises(KilnError) as caught:
        asked(server, "openai")
    assert (caught.value.reason, caught.value.retriable) == ("model-refused", retriable)
    assert KEY not in str(caught.value.to_document())


def test_without_a_key_or_a_server_or_a_model_nothing_is_asked(server: StandIn) -> None:
    said = interpret("ssh", CATALOG, DEFAULTS)
    closed = ModelSettings("openai", "http://127.0.0.1:1", "m")
    with pytest.raises(KilnError) as caught:
        read_with_model(said, said.recipe, CATALOG, SETTINGS, closed, {})
    assert caught.value.reason == "model-unreachable"
    keyed = ModelSettings("openai", f"http://127.0.0.1:{server.server_address[1]}", "m", "env:MODEL_KEY")
    with pytest.raises(KilnError) as caught:
        read_with_model(said, said.recipe, CATALOG, SETTINGS, keyed, {})
    assert caught.value.reason == "no-secret"
    assert server.seen == []
    with pytest.raises(KilnError) as caught:
        required_model(SETTINGS)
    assert caught.value.reason == "no-model"


def test_the_settings_name_a_model(tmp_path: Path) -> None:
    text = '[model]\nprovider = "anthropic"\nurl = "http://127.0.0.1:1"\nname = "m"\nkey = "env:K"\n'
    (tmp_path / "kiln.toml").write_text(text)
    assert load_settings(tmp_path, {}).model == ModelSettings("anthropic", "http://127.0.0.1:1", "m", "env:K")
    for old, new in (("anthropic", "other"), ("url", "uri"), ('name = "m"\n', "")):
        (tmp_path / "kiln.toml").write_text(text.replace(old, new))
        with pytest.raises(KilnError) as caught:
            load_settings(tmp_path, {})
        assert caught.value.reason == "bad-settings"


def test_a_turn_of_a_conversation_changes_what_it_speaks_of() -> None:
    first = interpret("ssh and docker, hardened, 20 GB disk", CATALOG, DEFAULTS).recipe
    said = interpret("drop Docker, add PostgreSQL on port 5433, user named ops", CATALOG, DEFAULTS, turn=True)
    second = refine(first, said)
    assert difference(first, second) == (
        "~ name = server-ssh-postgresql (was server-ssh-docker)",
        "- features.docker",
        "+ features.postgresql",
        "+ features.postgresql.options.port = 5433",
        "+ users.ops",
        "+ users.ops.shell = /bin/bash",
    ) or set(difference(first, second)) >= {"- features.docker", "+ features.postgresql", "+ users.ops"}
    assert (second.security, second.disk, second.base_image) == (first.security, first.disk, first.base_image)
    only_negated = interpret("no ssh", CATALOG, DEFAULTS, turn=True)
    assert [choice.id for choice in refine(second, only_negated).features] == ["postgresql"]


def test_two_equal_recipes_do_not_differ() -> None:
    recipe = read_recipe(b"base: debian-12\nfeatures: [ssh]\nusers: [a]", "a.yaml")
    assert difference(recipe, recipe) == ()
