"""The tools of Kiln: search, propose, validate, explain, preview, build after a confirmation, and status."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kiln.authoring.catalog import why as reasons
from kiln.authoring.catalog.entries import Catalog
from kiln.authoring.describe.document import interpretation_document
from kiln.authoring.describe.search import search
from kiln.authoring.recipe.canonical import recipe_digest, recipe_document
from kiln.control_plane.mcp.tools import Tool
from kiln.control_plane.preview import KIND as PREVIEW_KIND
from kiln.control_plane.preview import preview
from kiln.control_plane.road.author import Understood, resolve_all, understand
from kiln.control_plane.road.model import Order, Request
from kiln.control_plane.settings import Settings
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import NullSink
from kiln_wire.codec import encode

RECIPE_NAME = "<recipe>"
_REQUEST = ("request", "a sentence, or the text of a recipe as a JSON object")


@dataclass(slots=True)
class _Run:
    """A build that was begun."""

    state: str = "running"
    detail: dict[str, Any] = field(default_factory=dict)


class Service:
    """Carries out the tools with one machine's settings; a build runs in a thread of its own, one at a time."""

    def __init__(self, catalog: Catalog, settings: Settings, environment: Mapping[str, str], images: Path) -> None:
        self._catalog = catalog
        self._settings = settings
        self._environment = environment
        self._images = images
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()

    def tools(self) -> dict[str, Tool]:
        """Return the tools by name."""
        found = (
            Tool("search_features", "Find features of the catalogue for some words.", (("words", "what it is for"),),
                 ("words",), self._search),
            Tool("propose_recipe", "Turn a sentence into a recipe, and say which words led to what.",
                 (("sentence", "what is wanted"),), ("sentence",), self._propose),
            Tool("validate", "Check a request: what it adds, or what is wrong with it and where.", (_REQUEST,),
                 ("request",), self._validate),
            Tool("explain", "Say why something is in: a feature, package, file, port, user or service.",
                 (_REQUEST, ("thing", "its name")), ("request", "thing"), self._explain),
            Tool("preview", "Say what a build would give and cost, without building.", (_REQUEST,), ("request",),
                 self._preview),
            Tool("build", "Build, boot, test and sign an image. The first call answers with `confirm`; show the person "
                 "what would be built, and call again with it.",
                 (_REQUEST, ("confirm", "the text that the first call gave")), ("request",), self._build),
            Tool("status", "Say how the builds of this server stand.", (), (), self._status),
        )  # fmt: skip
        return {tool.name: tool for tool in found}

    def _understand(self, arguments: dict[str, Any]) -> Understood:
        text = arguments["request"]
        recipe = text.lstrip().startswith("{")
        request = Request("recipe", text, RECIPE_NAME) if recipe else Request("sentence", text)
        return understand(request, self._settings, self._catalog)

    def _search(self, arguments: dict[str, Any]) -> object:
        found = search(arguments["words"], self._catalog)
        return [{"id": item.id, "title": item.title, "description": item.description} for item in found]

    def _propose(self, arguments: dict[str, Any]) -> object:
        request = Request("sentence", arguments["sentence"])
        reading = understand(request, self._settings, self._catalog).interpretation
        if reading is None:
            raise AssertionError("a sentence has a reading")
        return interpretation_document(reading)

    def _validate(self, arguments: dict[str, Any]) -> object:
        understood = self._understand(arguments)
        found = resolve_all(understood, self._catalog)
        return {
            "recipe": recipe_document(understood.recipe),
            "recipeDigest": str(recipe_digest(understood.recipe)),
            "features": [item.id for item in found.features],
            "packages": len(found.packages),
            "ports": [f"{wish.port}/{wish.protocol}" for wish in found.ports],
            "checks": len(found.assertions),
        }

    def _explain(self, arguments: dict[str, Any]) -> object:
        resolution = resolve_all(self._understand(arguments), self._catalog)
        return [encode(thing) for thing in reasons.why(resolution, arguments["thing"])]

    def _preview(self, arguments: dict[str, Any]) -> object:
        resolution = resolve_all(self._understand(arguments), self._catalog)
        directory = self._images / resolution.name
        found = preview(resolution, self._settings, NullSink(), datetime.now(UTC), directory)
        return {"kind": PREVIEW_KIND, **encode(found)}

    def _build(self, arguments: dict[str, Any]) -> object:
        understood = self._understand(arguments)
        resolution = resolve_all(understood, self._catalog)
        digest = str(recipe_digest(understood.recipe))
        if arguments.get("confirm") != digest:
            return {
                "needsConfirmation": True,
                "confirm": digest,
                "name": resolution.name,
                "recipe": recipe_document(understood.recipe),
                "directory": str(self._images / resolution.name),
            }
        with self._lock:
            if any(run.state == "running" for run in self._runs.values()):
                raise KilnError(
                    Domain.STORE, "busy", "a build runs already", hint="ask for its `status`", retriable=True,
                    exit_status=ExitStatus.INFRASTRUCTURE,
                )  # fmt: skip
            run = self._runs[resolution.name] = _Run()
        order = Order(understood.request, self._images / resolution.name)
        threading.Thread(target=self._carry_out, args=(order, run), daemon=True).start()
        return {"name": resolution.name, "state": "running"}

    def _carry_out(self, order: Order, run: _Run) -> None:
        from kiln.control_plane.road.run import build_image  # noqa: PLC0415 - only a build needs the engine

        try:
            built = build_image(order, self._settings, NullSink(), environment=self._environment)
        except KilnError as error:
            run.detail, run.state = error.to_document(), "failed"
        else:
            run.detail = {"directory": str(built.directory), "recordId": built.record_id}
            run.state = built.report.verdict

    def _status(self, _: dict[str, Any]) -> object:
        return [{"name": name, "state": run.state, **run.detail} for name, run in self._runs.items()]
