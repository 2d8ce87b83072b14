"""One more sentence about a recipe that is there already: "drop Docker, add PostgreSQL"."""

from __future__ import annotations

from dataclasses import replace

from kiln.authoring.describe.model import Interpretation
from kiln.authoring.recipe.load import default_name
from kiln.authoring.recipe.model import FeatureChoice, Recipe, User


def refine(recipe: Recipe, said: Interpretation) -> Recipe:
    """Return *recipe* with what *said* adds, changes and turns down; what it does not speak of stays."""
    new = said.recipe
    slots = {slot.name for slot in said.slots if slot.words is not None}
    dropped = {choice.feature for choice in said.negated}
    features = {choice.id: choice for choice in recipe.features if choice.id not in dropped}
    for choice in new.features:
        old = features.get(choice.id)
        options = dict(old.options) | dict(choice.options) if old is not None else dict(choice.options)
        features[choice.id] = FeatureChoice(choice.id, tuple(sorted(options.items())))
    chosen = tuple(features.values())
    users: dict[str, User] = {user.username: user for user in new.users} | {u.username: u for u in recipe.users}
    ports = dict.fromkeys((*recipe.networking.firewall_ports, *new.networking.firewall_ports))
    named = "name" in slots
    return replace(
        recipe,
        name=new.name if named else _name(recipe, chosen),
        base_image=new.base_image if "base" in slots else recipe.base_image,
        features=chosen,
        users=tuple(users.values()),
        security=new.security if "hardening" in slots else recipe.security,
        networking=replace(
            recipe.networking,
            hostname=new.networking.hostname or recipe.networking.hostname,
            firewall_ports=tuple(ports),
        ),
        locale=new.locale if "locale" in slots else recipe.locale,
        timezone=new.timezone if "timezone" in slots else recipe.timezone,
        disk=new.disk if "disk" in slots else recipe.disk,
        outputs=new.outputs or recipe.outputs,
    )


def _name(recipe: Recipe, features: tuple[FeatureChoice, ...]) -> str:
    """Return the name: a made one follows the features, one that somebody gave stays."""
    return default_name(features) if recipe.name == default_name(recipe.features) else recipe.name
