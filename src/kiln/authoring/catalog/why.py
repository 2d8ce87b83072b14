"""Why something is in an image, and what would go without a feature: answers from resolutions, for people.

Packages that came as dependencies of others are the lock's (`LockedPackage.reason`); this knows what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from kiln.authoring.catalog.entries import Catalog
from kiln.authoring.catalog.model import Reason, Resolution
from kiln.authoring.catalog.resolve import resolve
from kiln.authoring.recipe.model import Recipe

Kind = Literal["feature", "package", "file", "service", "user", "port", "sysctl"]
KINDS: Final[tuple[Kind, ...]] = ("feature", "package", "file", "service", "user", "port", "sysctl")


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that is in, and why."""

    kind: Kind
    name: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Removal:
    """What leaving a feature out would do: *gone* is in no more; *kept_by* are features that require it."""

    feature: str
    kept_by: tuple[str, ...]
    gone: tuple[Thing, ...]


def things(resolution: Resolution) -> Iterator[Thing]:
    """Return everything that has a reason, by kind and name."""
    for feature in resolution.features:
        yield Thing("feature", feature.id, feature.reason)
    for package in resolution.packages:
        yield Thing("package", package.name, package.reason)
    for file in resolution.files:
        yield Thing("file", file.path, file.reason)
    for service in resolution.services:
        yield Thing("service", service.unit, service.reason)
    for user in resolution.users:
        yield Thing("user", user.name, user.reason)
    for port in resolution.ports:
        yield Thing("port", f"{port.port}/{port.protocol}", port.reason)
    for sysctl in resolution.sysctls:
        yield Thing("sysctl", sysctl.key, sysctl.reason)


def why(resolution: Resolution, name: str) -> tuple[Thing, ...]:
    """Return the things called *name*: `docker`, `docker.io`, `/etc/docker/daemon.json`, `ssh`, `22`, `22/tcp`."""
    names = {name, f"{name}.service", f"{name}/tcp", f"{name}/udp"}
    return tuple(thing for thing in things(resolution) if thing.name in names)


def without(recipe: Recipe, catalog: Catalog, feature_id: str) -> Removal:
    """Return what would go if *recipe* did not ask for the feature; hardening may ask for it all the same.

    Raises what `resolve` raises.
    """
    before = resolve(recipe, catalog)
    kept = tuple(choice for choice in recipe.features if choice.id != feature_id)
    after = resolve(replace(recipe, features=kept, services=()), catalog)
    left = {(thing.kind, thing.name) for thing in things(after)}
    still = next((feature for feature in after.features if feature.id == feature_id), None)
    return Removal(
        feature_id,
        () if still is None else tuple(dict.fromkeys(still.reason.chain[:-1])),
        tuple(thing for thing in things(before) if (thing.kind, thing.name) not in left),
    )
