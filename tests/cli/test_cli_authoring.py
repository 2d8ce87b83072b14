"""The commands around a recipe: feature why and new, schema, chat, mcp, describe with a model that is not there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kiln.authoring.catalog.data import catalog_folder, load_catalog
from kiln.cli.main import app


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KILN_STATE", str(tmp_path / "state"))


def run(*arguments: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, list(arguments), input=typed)


def test_why_gives_the_chain_and_what_would_go() -> None:
    done = run("feature", "why", "ssh", "an sftp drop box and docker", "--json")
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert document["feature"]["reason"]["chain"] == ['request "sftp drop box"', "feature sftp", "feature ssh"]
    assert document["without"]["keptBy"] == ["recipe", "feature sftp"]
    text = run("feature", "why", "docker", "an sftp drop box and docker").stdout
    assert "docker.io" in text
    assert run("feature", "why", "nginx", "docker").exit_code == 3


def test_a_new_feature_loads_with_the_catalogue(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(catalog_folder({}), tmp_path / "catalog"))
    done = run("feature", "new", "my-timer", "--folder", str(copy / "features"))
    assert done.exit_code == 0
    assert load_catalog(copy).feature("my-timer") is not None
    for name, folder in (
        ("my-timer", copy / "features"),
        ("ssh", copy / "features"),
        ("../x", copy),
        ("a", copy / "no"),
    ):
        assert run("feature", "new", name, "--folder", str(folder)).exit_code == 2


def test_the_schema_has_the_names_of_the_catalogue() -> None:
    schema = json.loads(run("schema", "recipe").stdout)
    assert "docker" in schema["$defs"]["FeatureName"]["enum"]


def test_a_conversation_ends_in_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    typed = "ssh and docker\ndrop docker and add nginx on port 8080\nno such thing at all\n"
    done = run("chat", "--output", str(file), typed=typed)
    assert done.exit_code == 0
    assert "- features.docker" in done.stdout
    recipe = json.loads(file.read_text())
    assert recipe["features"] == [{"id": "ssh"}, {"id": "nginx", "options": {"port": 8080}}]
    again = run("chat", "--output", str(file), typed="strict hardening\n")
    assert "~ security.hardeningLevel = strict (was standard)" in again.stdout
    assert [item["id"] for item in json.loads(file.read_text())["features"]] == ["ssh", "nginx"]


def test_agents_are_answered_on_standard_streams() -> None:
    params = {"name": "search_features", "arguments": {"words": "mqtt"}}
    done = run("mcp", typed=json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}) + "\n")
    assert done.exit_code == 0
    assert "mosquitto" in json.loads(done.stdout)["result"]["content"][0]["text"]


def test_describe_json_is_the_recipe_alone_and_a_model_must_be_named() -> None:
    assert json.loads(run("describe", "ssh", "--json").stdout)["kind"] == "kiln.recipe/v1"
    refused = run("describe", "ssh", "--json", "--with-model")
    assert refused.exit_code == 2
    assert json.loads(refused.stdout)["reason"] == "no-model"
