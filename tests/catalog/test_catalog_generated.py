"""Generated recipes of every shape go through reading and resolution without a traceback."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

from kiln.authoring.catalog.data import catalog_folder, known, load_catalog
from kiln.authoring.catalog.document import read_resolution, resolution_bytes
from kiln.authoring.catalog.resolve import resolve
from kiln.authoring.recipe.load import read_recipe
from kiln.errors import Domain, ExitStatus, KilnError

CATALOG = load_catalog(catalog_folder({}))
KNOWN = known(CATALOG)
FEATURES = sorted(KNOWN.features)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a@b"
COUNT = 2_000
ODD = ["", "x" * 300, "../..", "a\nb", "Ünïcode", None, -1, 1.5, True, [], {}, [[]], {"a": {"b": 1}}]


def option(rng: random.Random, name: str) -> Any:
    feature = CATALOG.feature(name)
    assert feature is not None
    settings = {}
    for key, kind in feature.options:
        if rng.random() < 0.3:
            values = {
                "integer": [kind.minimum or 0, kind.maximum or 10, rng.randint(1, 70000)],
                "boolean": [True, False],
                "text": [*kind.choices, "192.0.2.0/24", "eth0", "x"],
                "texts": [[], ["192.0.2.0/24"], ["x", "x"]],
            }
            settings[key] = rng.choice(values[kind.type])
    return {name: settings} if settings else name


def recipe(rng: random.Random) -> Any:
    def some(*items: Any, most: int = 2) -> list[Any]:
        return rng.sample(items, rng.randint(0, min(most, len(items))))

    document: dict[str, Any] = {
        "base": rng.choice(["debian-12", *sorted(KNOWN.bases - {"fedora"})] if rng.random() < 0.97 else ["fedora"]),
        "features": [option(rng, name) for name in some(*FEATURES, most=7)],
    }
    parts: dict[str, Any] = {
        "security_level": rng.choice(["none", "minimal", "standard", "strict"]),
        "packages": some("vim", "curl", "nginx", "sudo", "no-such-package"),
        "package_overrides": some(
            {"name": "nano", "action": "remove"},
            {"name": "vim", "action": "add"},
            {"name": "chrony", "action": "replace", "replacement": "ntpsec"},
            {"name": "systemd", "action": "remove"},
        ),
        "users": some("alice", {"username": "bob", "ssh_keys": [KEY], "groups": ["sudo"]}, {"username": "ansible"},
                      {"username": "carl", "passwordHash": {"secret": "carl"}}),
        "services": some("cron", "ssh", {"name": "nginx", "config": {"port": 8081}}, {"name": "zzz", "config": {"a": 1}}),
        "networking": {"hostname": "h", "dns": ["192.0.2.53"], "firewallPorts": some(80, "53/udp", 22),
                       "interfaces": some({"name": "eth0", "address": "192.0.2.9/24"}, {"name": "en*"})},
        "startup_scripts": some({"name": "a", "script": "true"}, {"name": "b", "script": "#!/bin/sh\necho"}),
        "locale": "de_DE.UTF-8",
        "timezone": "Europe/Berlin",
        "kernel": {"flavour": rng.choice(["cloud", "generic", "huge"]), "cmdline": "quiet"},
        "disk": {"size": rng.choice(["4G", "20G"])},
        "outputs": some("qcow2", "squashfs") or ["floppy"],
        "extra_repos": some({"name": "x", "mirror": "x", "suite": "s", "signedBy": "x.gpg"}),
        "custom_packages": [{"name": "aa", "git_url": "https://example.org/a"}] if rng.random() < 0.1 else [],
        "tests": some({"description": "d", "assertions": ["systemd_no_failed", {"user_exists": {"name": "a"}}]}),
    }  # fmt: skip
    for key, value in parts.items():
        if rng.random() < 0.25:
            document[key] = value
    if rng.random() < 0.15:
        document[rng.choice([*document, *parts, "typo"])] = rng.choice(ODD)
    return document


def test_generated_recipes_are_read_and_resolved_or_refused_with_a_reason() -> None:
    rng = random.Random(5)
    outcomes: Counter[str] = Counter()
    for _ in range(COUNT):
        text = json.dumps(recipe(rng))
        try:
            resolution = resolve(read_recipe(text.encode(), "generated.json", KNOWN), CATALOG)
        except KilnError as error:
            assert error.domain in (Domain.RECIPE, Domain.CATALOG), text
            assert error.exit_status is ExitStatus.USAGE, text
            outcomes[error.reason] += 1
            continue
        outcomes["resolved"] += 1
        if outcomes["resolved"] % 20 == 0:
            data = resolution_bytes(resolution)
            assert read_resolution(data, "resolution.json") == resolution
    assert outcomes["resolved"] > COUNT / 5, outcomes
    assert len(outcomes) > 8, outcomes
