"""A request to a recipe with a model: the answer chooses from lists, and goes through the reader like any recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx

from kiln.authoring.catalog.data import known
from kiln.authoring.catalog.entries import Catalog
from kiln.authoring.describe.model import Interpretation
from kiln.authoring.recipe.difference import difference
from kiln.authoring.recipe.load import HARDENING_LEVELS, RecipeDefaults, read_recipe
from kiln.authoring.recipe.model import Recipe
from kiln.control_plane.assistant.model import KIND, ModelReading, Question
from kiln.control_plane.assistant.providers import ask
from kiln.control_plane.settings import ModelSettings, Settings
from kiln.errors import Domain, ExitStatus, KilnError
from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest

ANSWER_FILE: Final = "<model's answer>"
_INSTRUCTIONS: Final = """\
You choose what goes into an operating-system image. Answer with the recipe only. Choose features from the list, as few
as the request needs; what the request turns down must not be among them. Leave out what it does not speak of.

Features:
{features}

Bases: {bases}

A program without a model has read the request like this; correct it where it is wrong:
{offline}
"""


def question(request: str, offline: Recipe, catalog: Catalog) -> Question:
    """Return what a model is asked about *request*."""
    features = "\n".join(f"- {item.id}: {item.description}" for item in catalog.features)
    bases = ", ".join(entry.base.id for entry in catalog.bases)
    said = json.dumps({"base": offline.base_image, "hardening": offline.security.hardening_level,
                       "features": [choice.id for choice in offline.features]})  # fmt: skip
    return Question(_INSTRUCTIONS.format(features=features, bases=bases, offline=said), request, answer_schema(catalog))


def answer_schema(catalog: Catalog) -> dict[str, object]:
    """Return the schema of answers: no name in it that the catalogue does not have, and no package at all."""
    names = known(catalog)
    text = {"type": "string"}
    properties: dict[str, object] = {
        "base": {"enum": sorted(names.bases)},
        "hardening": {"enum": list(HARDENING_LEVELS)},
        "features": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["id"],
                "properties": {"id": {"enum": sorted(names.features)}, "options": {"type": "object"}},
            },
        },
        "name": text,
        "hostname": text,
        "timezone": text,
        "locale": text,
        "diskSize": {"type": "string", "description": "such as 20G"},
        "firewallPorts": {"type": "array", "items": {"type": "string", "description": "such as 8080/tcp"}},
        "users": {"type": "array", "items": text},
    }
    return {"type": "object", "additionalProperties": False, "required": ["features"], "properties": properties}


def read_with_model(
    said: Interpretation,
    offline: Recipe,
    catalog: Catalog,
    settings: Settings,
    model: ModelSettings,
    environment: Mapping[str, str],
    transport: httpx.BaseTransport | None = None,
) -> ModelReading:
    """Return the model's reading of a request that was read offline as the recipe *offline*.

    Raises KilnError: what `ask` raises; (RECIPE, CATALOG) for an answer that no recipe may say.
    """
    asked = question(said.request, offline, catalog)
    answer = ask(asked, model, environment, transport)
    data = canonical_json(_document(answer))
    recipe = read_recipe(data, ANSWER_FILE, known(catalog), RecipeDefaults(settings.base, settings.hardening))
    prompt = canonical_json({"instructions": asked.instructions, "request": asked.request, "schema": asked.schema})
    evidence: dict[str, object] = {
        "kind": KIND,
        "provider": model.provider,
        "model": model.name,
        "promptDigest": str(Digest.of(prompt)),
        "answer": answer,
        "difference": list(difference(offline, recipe)),
    }
    return ModelReading(recipe, difference(offline, recipe), evidence)


def required_model(settings: Settings) -> ModelSettings:
    """Return the model of the settings. Raises KilnError (SETTINGS, `no-model`)."""
    if settings.model is None:
        raise KilnError(
            Domain.SETTINGS,
            "no-model",
            "the settings name no model",
            hint="add a table `[model]` to kiln.toml (docs/settings.md), or leave `--with-model` out",
            exit_status=ExitStatus.USAGE,
        )
    return settings.model


def _document(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer in the form of a recipe; what is not of the schema stays, for the reader to refuse."""
    document = {key: value for key, value in answer.items() if value not in ("", [], None)}
    networking = {key: document.pop(key) for key in ("hostname", "firewallPorts") if key in document}
    if networking:
        document["networking"] = networking
    if "diskSize" in document:
        document["disk"] = {"size": document.pop("diskSize")}
    return document
