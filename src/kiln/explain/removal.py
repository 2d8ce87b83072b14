"""What would go from an image if a feature were taken out of its recipe. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kiln.authoring.catalog.entries import Catalog
from kiln.authoring.catalog.model import Resolution
from kiln.authoring.catalog.resolve import resolve
from kiln.authoring.lock.model import IMAGE_TREE, Lock
from kiln.authoring.recipe.model import Recipe
from kiln.errors import Domain, ExitStatus, KilnError


@dataclass(frozen=True, slots=True)
class Removal:
    """Names of what would go, sorted. Packages are those that nothing else in the lock needs."""

    feature: str
    features: tuple[str, ...]
    packages: tuple[str, ...]
    installed_bytes: int
    files: tuple[str, ...]
    services: tuple[str, ...]
    users: tuple[str, ...]
    ports: tuple[str, ...]
    sysctls: tuple[str, ...]


def removal(recipe: Recipe, resolution: Resolution, lock: Lock, catalog: Catalog, feature: str) -> Removal:
    """Return what taking *feature* out of *recipe* would take out of the image.

    Raises KilnError(CATALOG) if the rest cannot be resolved, (ATTESTATION, "not-in-image") if the recipe does not name
    the feature, and (ATTESTATION, "still-required") with the chain if something else brings it in again.
    """
    present = {item.id: item for item in resolution.features}
    if feature not in present:
        raise KilnError(
            Domain.ATTESTATION,
            "not-in-image",
            f"there is no feature `{feature}` in this image",
            hint=f"it has {', '.join(sorted(present)) or 'none'}",
            exit_status=ExitStatus.NOT_FOUND,
        )
    rest = replace(recipe, features=tuple(item for item in recipe.features if item.id != feature))
    after = resolve(rest, catalog)
    again = next((item for item in after.features if item.id == feature), None)
    if again is not None:
        raise KilnError(
            Domain.ATTESTATION,
            "still-required",
            f"`{feature}` would come back: {again.reason}",
            hint="what requires it must go first",
            exit_status=ExitStatus.FAILED,
        )
    gone = _packages(resolution, after, lock)
    return Removal(
        feature=feature,
        features=_missing({item.id for item in resolution.features}, {item.id for item in after.features}),
        packages=tuple(sorted(gone)),
        installed_bytes=sum(gone.values()),
        files=_missing({item.path for item in resolution.files}, {item.path for item in after.files}),
        services=_missing({item.unit for item in resolution.services}, {item.unit for item in after.services}),
        users=_missing({item.name for item in resolution.users}, {item.name for item in after.users}),
        ports=_missing(
            {f"{item.port}/{item.protocol}" for item in resolution.ports},
            {f"{item.port}/{item.protocol}" for item in after.ports},
        ),
        sysctls=_missing({item.key for item in resolution.sysctls}, {item.key for item in after.sysctls}),
    )


def _missing(before: set[str], after: set[str]) -> tuple[str, ...]:
    return tuple(sorted(before - after))


def _packages(before: Resolution, after: Resolution, lock: Lock) -> Mapping[str, int]:
    """Return packages that cannot be reached any more -> bytes installed, following the lock's own edges."""
    packages = lock.tree(IMAGE_TREE).packages
    by_name = {item.name: item for item in packages}
    dropped = {item.name for item in before.packages} - {item.name for item in after.packages}
    roots = [
        item.name for item in packages if (" > " not in item.reason or item.essential) and item.name not in dropped
    ]
    reached: set[str] = set()
    while roots:
        name = roots.pop()
        if name not in reached and name in by_name:
            reached.add(name)
            roots += by_name[name].depends
    return {item.name: item.installed_size_bytes for item in packages if item.name not in reached}
