"""The published JSON Schema: it is what the types give, and it agrees with the reader."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from test_recipe_canonical import RECIPES

from kiln.authoring.recipe.advice import warnings
from kiln.authoring.recipe.canonical import recipe_document
from kiln.authoring.recipe.load import read_recipe
from kiln.authoring.recipe.model import Recipe
from kiln.authoring.recipe.schema import recipe_schema
from kiln.errors import KilnError

PUBLISHED = Path(__file__).parents[2] / "docs/formats/recipe.schema.json"
CHECKER = jsonschema.Draft202012Validator(recipe_schema())
HASH = "$y$j9T$abcdefghijklmnop$0123456789abcdefghijklmnopqrstuvwxyzABCDEF"


def test_the_published_schema_is_the_one_that_the_types_give():
    jsonschema.Draft202012Validator.check_schema(recipe_schema())
    expected = json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n"
    assert PUBLISHED.read_text(encoding="utf-8") == expected, "run tools/recipe_schema.py"


@given(RECIPES)
@settings(max_examples=40, deadline=None)
def test_every_canonical_recipe_follows_it(recipe: Recipe):
    CHECKER.validate(recipe_document(recipe))


SPELLED = """
base: debian-12
features: [ssh, {nginx: {port: 8080}}, {id: docker, options: {live_restore: false}}]
security_level: strict
audit-logging: true
automaticUpdates: true
users: [alice, {name: bob, sshAuthorizedKeys: [], password_hash: {secret: bob}}, {username: carl, passwordSecret: c}]
network: {host_name: web1, ports: [80, 443, 53/udp], interfaces: [{name: eth0, ip: 192.0.2.1/24}]}
kernel: {flavor: cloud}
disk: {size: 10G, layout: plain}
services: [ssh, {name: nginx, config: {port: 1}}]
outputs: [qcow2]
tests:
  - {description: x, assertions: [systemd_no_failed, {mount: {path: /tmp}}, {type: user_exists, params: {name: a}}]}
"""


def test_every_spelling_that_is_read_follows_it():
    read_recipe(SPELLED.encode(), "a.yaml")
    CHECKER.validate(yaml.safe_load(SPELLED))


@pytest.mark.parametrize(
    "text",
    [
        "base: debian-12\nfetures: [ssh]",
        "base: 12",
        "features: [../ssh]",
        "features: [{id: ssh, opts: {}}]",
        "users: [{shell: /bin/sh}]",
        "users: [{username: a, password: x}]",
        "disk: {size: [1]}",
        "outputs: qcow2",
        "networking: {firewall_ports: [0]}",
        "package_overrides: [{name: vim, action: change}]",
        "tests: [{description: x, assertions: [{mount: {}}]}]",
        "tests: [{description: x, assertions: [nothing]}]",
        "security: {level: lax}",
        "kernel: {cmdline: 'a\"b'}",
    ],
)
def test_what_it_refuses_is_refused_by_the_reader_too(text: str):
    assert not CHECKER.is_valid(yaml.safe_load(text))
    with pytest.raises(KilnError):
        read_recipe((text if "base" in text else f"base: debian-12\n{text}").encode(), "a.yaml")


def test_with_a_catalogue_no_other_names_are_taken():
    checker = jsonschema.Draft202012Validator(recipe_schema(["ssh"], ["debian-12"]))
    assert checker.is_valid({"base": "debian-12", "features": ["ssh", {"ssh": {"port": 1}}, {"id": "ssh"}]})
    for document in (
        {"base": "debian-99"},
        {"features": ["docker"]},
        {"features": [{"docker": {}}]},
        {"features": [{"id": "docker"}]},
    ):
        assert not checker.is_valid(document), document


def test_a_password_is_a_reference_and_a_hash_is_warned_about():
    secret = read_recipe(b"base: debian-12\nusers: [{username: a, passwordHash: {secret: ops}}]", "a.yaml")
    assert (secret.users[0].password_secret, secret.users[0].password_hash) == ("ops", "")
    assert warnings(secret) == ()
    given_hash = read_recipe(f"base: debian-12\nusers: [{{username: a, passwordHash: '{HASH}'}}]".encode(), "a.yaml")
    (text,) = warnings(given_hash)
    assert "`a`" in text
    assert HASH not in text


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("{username: a, passwordHash: {secret: ops}, passwordSecret: ops}", "duplicate-key"),
        ("{username: a, passwordHash: {secrt: ops}}", "missing-key"),
        ("{username: a, passwordHash: {secret: ../ops}}", "bad-value"),
        ("{username: a, passwordHash: {}}", "missing-key"),
    ],
)
def test_a_wrong_reference_is_refused(user: str, reason: str):
    with pytest.raises(KilnError) as caught:
        read_recipe(f"base: debian-12\nusers: [{user}]".encode(), "a.yaml")
    assert caught.value.reason == reason
