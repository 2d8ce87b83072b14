"""What a recipe says that cannot be built, and what its services and desktop mean for the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kiln.authoring.catalog.entries import Catalog, Feature
from kiln.authoring.catalog.model import Base
from kiln.authoring.catalog.select import Selected
from kiln.authoring.recipe.assertions import VOCABULARY
from kiln.authoring.recipe.model import Recipe
from kiln.authoring.recipe.problems import did_you_mean
from kiln.authoring.recipe.values import shown
from kiln.errors import Domain, ExitStatus, KilnError

def checked_base(recipe: Recipe, catalog: Catalog) -> Base:
    """Return the base of the recipe, after everything that cannot be built yet has been refused.

    Raises KilnError (CATALOG): `unknown-base`, `not-supported-yet`.
    """
    if recipe.custom_packages:
        raise not_yet("custom_packages", "packages built from git", "build the package, and give its archive")
    for test in recipe.tests:
        for assertion in test.assertions:
            if assertion.type not in VOCABULARY:
                raise not_yet("tests", f"the assertion {shown(assertion.type)}", "leave it out")
    entry = catalog.base(recipe.base_image)
    if entry is None:
        known = {found.base.id for found in catalog.bases}
        hint = did_you_mean(recipe.base_image, known) or f"known: {', '.join(sorted(known))}"
        raise _refusal("unknown-base", f"unknown base {shown(recipe.base_image)}", hint)
    if entry.base.family != "deb":
        deb = [found.base.id for found in catalog.bases if found.base.family == "deb"]
        raise not_yet("baseImage", f"images of {entry.base.title}", f"choose of {', '.join(deb)}")
    return entry.base


def options_said(recipe: Recipe, selected: Sequence[Selected]) -> dict[str, dict[str, object]]:
    """Return the options that the recipe gives each feature: in `features`, in `services`, in `desktop`.

    Raises KilnError (CATALOG): `unknown-service`, `option-clash`, `not-supported-yet`.
    """
    said = {choice.id: dict(choice.options) for choice in recipe.features}
    for service in recipe.services:
        if not service.config:
            continue
        owner = _owner(service.name, selected)
        if owner is None:
            raise _refusal(
                "unknown-service",
                f"no feature of the recipe owns the service {shown(service.name)}, so its config has no meaning",
                "add the feature that owns it, or leave out `config`",
            )
        _add(said.setdefault(owner.id, {}), dict(service.config), f"services: {service.name}", owner)
    if recipe.desktop is not None:
        look = {
            "theme": recipe.desktop.theme,
            "wallpaper": recipe.desktop.wallpaper,
            "favorites": recipe.desktop.favorites,
        }
        wanted: dict[str, object] = {name: value for name, value in look.items() if value}
        screen = next((chosen.feature for chosen in selected if "desktop" in chosen.feature.provides), None)
        if screen is None:
            raise not_yet("desktop", "a desktop without a desktop feature", "add `desktop-xfce` to `features`")
        for name in wanted:
            if name not in dict(screen.options):
                raise not_yet(f"desktop.{name}", f"`{name}` of `{screen.id}`", "leave it out")
        _add(said.setdefault(screen.id, {}), wanted, "desktop", screen)
    return said


def units_said(recipe: Recipe, selected: Sequence[Selected]) -> list[str]:
    """Return the units that the recipe enables and no feature of it owns."""
    names = [service.name for service in recipe.services if _owner(service.name, selected) is None]
    return [name if "." in name else f"{name}.service" for name in names]


def not_yet(path: str, what: str, hint: str) -> KilnError:
    """Return the refusal of something that a recipe may say and that cannot be built yet."""
    return _refusal("not-supported-yet", f"`{path}`: {what}: not supported yet", hint)


def _owner(name: str, selected: Sequence[Selected]) -> Feature | None:
    for chosen in selected:
        feature = chosen.feature
        units = set(feature.services.enabled).union(*(part.services.enabled for part in feature.parts))
        if name == feature.id or name in units or f"{name}.service" in units:
            return feature
    return None


def _add(old: dict[str, object], new: dict[str, object], where: str, feature: Feature) -> None:
    for name, value in new.items():
        if old.get(name, value) != value:
            raise _refusal(
                "option-clash",
                f"the option `{name}` of the feature `{feature.id}` is set twice, in `features` and in `{where}`",
                "keep one of them",
            )
        old[name] = value


def _refusal(reason: str, message: str, hint: str) -> KilnError:
    return KilnError(Domain.CATALOG, reason, message, hint=hint, exit_status=ExitStatus.USAGE)
