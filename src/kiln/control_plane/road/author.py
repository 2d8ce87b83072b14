"""From a request to a plan: describe, resolve, lock, compose. Only the lock step touches the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from kiln.authoring.catalog.data import known
from kiln.authoring.catalog.document import resolution_digest
from kiln.authoring.catalog.entries import Catalog
from kiln.authoring.catalog.model import Resolution
from kiln.authoring.catalog.resolve import resolve
from kiln.authoring.compose.plan import compose
from kiln.authoring.describe.document import interpretation_document
from kiln.authoring.describe.interpret import interpret
from kiln.authoring.describe.model import DescribeDefaults, Interpretation
from kiln.authoring.lock.document import lock_digest, read_lock
from kiln.authoring.lock.model import Lock
from kiln.authoring.recipe.canonical import recipe_bytes
from kiln.authoring.recipe.load import RecipeDefaults, read_recipe
from kiln.authoring.recipe.model import Recipe
from kiln.control_plane.road.model import Request
from kiln.control_plane.settings import Settings
from kiln.events.model import Sink
from kiln_wire import layout
from kiln_wire.canonical import canonical_json, pretty_json

REQUEST_KIND: Final = "kiln.request/v1"
INTERPRETATION: Final = "evidence/interpretation.json"
ARCHITECTURE: Final = "amd64"


@dataclass(frozen=True, slots=True)
class Understood:
    """A request and the recipe that it means; *interpretation* says how a sentence was read."""

    request: Request
    interpretation: Interpretation | None
    recipe: Recipe

    @property
    def documents(self) -> dict[str, bytes]:
        """The files of the image directory that say what was asked."""
        request = {"kind": REQUEST_KIND, "form": self.request.form, "text": self.request.text}
        files = {layout.REQUEST: canonical_json(request), layout.RECIPE: recipe_bytes(self.recipe)}
        if self.interpretation is not None:
            files[INTERPRETATION] = pretty_json(interpretation_document(self.interpretation))
        return files


def understand(request: Request, settings: Settings, catalog: Catalog) -> Understood:
    """Return what a request means. Raises KilnError(DESCRIBE, RECIPE)."""
    if request.form == "recipe":
        defaults = RecipeDefaults(settings.base, settings.hardening)
        recipe = read_recipe(request.text.encode("utf-8"), request.file, known(catalog), defaults)
        return Understood(request, None, recipe)
    defaults_of_words = DescribeDefaults(settings.base, settings.hardening)
    interpretation = interpret(request.text, catalog, defaults_of_words, dict(request.answers))
    return Understood(request, interpretation, interpretation.recipe)


def with_outputs(understood: Understood, outputs: Sequence[str]) -> Understood:
    """Return the request with further outputs in its recipe."""
    if not outputs:
        return understood
    every = dict.fromkeys((*understood.recipe.outputs, *outputs))
    return replace(understood, recipe=replace(understood.recipe, outputs=tuple(every)))


def resolve_all(understood: Understood, catalog: Catalog) -> Resolution:
    """Return everything that a recipe adds, with the words of the request as the first causes.

    Raises KilnError(CATALOG).
    """
    interpretation = understood.interpretation
    return resolve(understood.recipe, catalog, interpretation.causes() if interpretation is not None else {})


def kept_lock(path: Path, resolution: Resolution) -> Lock | None:
    """Return the lock at *path* if it was made for this resolution.

    Raises KilnError(LOCK, "bad-lock") for a damaged one: it may be somebody's merge gone wrong, and is not overwritten.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    lock = read_lock(data, str(path))
    return lock if lock.resolution_digest == resolution_digest(resolution) else None


def new_lock(
    resolution: Resolution,
    settings: Settings,
    sink: Sink,
    now: datetime,
    *,
    earlier: Lock | None = None,
    update: tuple[str, ...] = (),
) -> Lock:
    """Make a lock from what the mirrors have now; with *earlier*, only the packages *update* become newer.

    Raises KilnError(LOCK, FETCH, HOST).
    """
    # Here, because a run that keeps its lock needs neither an HTTP client nor a solver.
    from kiln.authoring.lock.keyrings import Keyrings  # noqa: PLC0415
    from kiln.authoring.lock.lock import make_lock  # noqa: PLC0415
    from kiln.authoring.lock.release import Freshness  # noqa: PLC0415
    from kiln.fetch.client import Fetcher  # noqa: PLC0415
    from kiln.fetch.mirrors import Mirrors  # noqa: PLC0415

    mirrors = Mirrors.of_this_machine(dict(settings.mirrors))
    with Fetcher(mirrors, sink) as fetcher:
        return make_lock(
            resolution,
            architecture=ARCHITECTURE,
            fetcher=fetcher,
            keyrings=Keyrings(settings.keyrings),
            cache=settings.cache,
            sink=sink,
            now=now,
            freshness=Freshness(accept_expired=settings.accept_expired_indexes),
            earlier=earlier,
            update=update,
        )


def plan_of(resolution: Resolution, lock: Lock) -> tuple[dict[str, Any], bytes]:
    """Return the plan and its bytes. Raises KilnError(COMPOSE)."""
    plan = compose(resolution, lock, lock_digest(lock))
    return plan, pretty_json(plan)
