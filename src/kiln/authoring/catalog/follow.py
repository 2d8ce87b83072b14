"""What follows from a recipe and from what was gathered: kernel, network, startup scripts, packages, assertions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from kiln.authoring.catalog.gather import File, Gathering, Rank
from kiln.authoring.catalog.model import Base, Mirror
from kiln.authoring.catalog.select import Selected
from kiln.authoring.recipe.model import Assertion, Interface, Recipe
from kiln.errors import Domain, ExitStatus, KilnError

STARTUP_FOLDER: Final = "/usr/local/lib/kiln/startup"
DEFAULT_LOCALE: Final = "C.UTF-8"  # part of the C library of every base


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """The flavour of the kernel and its package."""

    flavour: str
    package: str


def kernel(recipe: Recipe, base: Base, selected: Sequence[Selected]) -> KernelChoice:
    """Return the kernel: the recipe's, else the one that a feature needs, else the base's default.

    Raises KilnError (CATALOG): `unknown-kernel`, `kernel-clash`.
    """
    packages = dict(base.kernels)
    asked = {"recipe > kernel.flavour": recipe.kernel.flavour} if recipe.kernel.flavour else {}
    asked |= {str(chosen.reason): chosen.feature.kernel for chosen in selected if chosen.feature.kernel}
    flavours = sorted(set(asked.values())) or [base.default_kernel]
    if len(flavours) > 1:
        raise KilnError(
            Domain.CATALOG,
            "kernel-clash",
            f"two kernels are asked for: {' and '.join(flavours)}",
            detail="\n".join(f"{cause}: {flavour}" for cause, flavour in asked.items()),
            hint="an image has one kernel; leave out `kernel.flavour` or the feature",
            exit_status=ExitStatus.USAGE,
        )
    if flavours[0] not in packages:
        raise KilnError(
            Domain.CATALOG,
            "unknown-kernel",
            f"{base.title} has no kernel flavour `{flavours[0]}`",
            hint=f"it has {', '.join(sorted(packages))}",
            exit_status=ExitStatus.USAGE,
        )
    return KernelChoice(flavours[0], packages[flavours[0]])


def given(recipe: Recipe) -> set[str]:
    """Return the names that conditions `given ...` of the catalogue can ask about."""
    said = {
        "dns": recipe.networking.dns,
        "interfaces": recipe.networking.interfaces,
        "password-secrets": password_secrets(recipe),
        "startup-scripts": recipe.startup_scripts,
        "users": recipe.users,
    }
    return {name for name, value in said.items() if value}


def password_secrets(recipe: Recipe) -> tuple[str, ...]:
    """Return `<user> <name of the secret>` for each account whose password hash is given to the machine at boot."""
    return tuple(f"{user.username} {user.password_secret}" for user in recipe.users if user.password_secret)


def archives(recipe: Recipe, base: Base, selected: Sequence[Selected]) -> tuple[Mirror, ...]:
    """Return the suites to read: the base's, with the components that features need, and the recipe's own."""
    more = [
        name
        for chosen in selected
        for distribution, names in chosen.feature.components
        if distribution == base.distribution
        for name in names
    ]
    suites = [
        replace(suite, components=tuple(dict.fromkeys((*suite.components, *more)))) if more else suite
        for suite in base.mirrors
    ]
    # The keyring is looked for by its name in the directories of the settings: no path of a recipe is followed.
    own = [
        Mirror(entry.mirror, entry.suite, entry.components, entry.signed_by.rpartition("/")[2])
        for entry in recipe.extra_repos
    ]
    return (*suites, *own)


def add_network(recipe: Recipe, gathering: Gathering) -> None:
    """Add a systemd-networkd file for each interface of the recipe."""
    for interface in recipe.networking.interfaces:
        # `*` would be legal in a file name and bad manners in a shell.
        name = interface.name.replace("*", "_any")
        path = f"/etc/systemd/network/10-{name}.network"
        chain = ("recipe", f"networking.interfaces {interface.name}")
        gathering.files.add(path, File(_network_file(interface)), Rank.RECIPE, chain)


def _network_file(interface: Interface) -> str:
    lines = ["[Match]", f"Name={interface.name}", "", "[Network]"]
    if interface.dhcp:
        lines += ["DHCP=yes"]
    else:
        lines += ["DHCP=no", f"Address={interface.address}"]
        lines += [f"Gateway={interface.gateway}"] if interface.gateway else []
    return "\n".join(lines) + "\n"


def add_startup_scripts(recipe: Recipe, gathering: Gathering) -> None:
    """Add the scripts of the first boot; the unit that runs them is the catalogue's (system.yaml)."""
    for number, script in enumerate(recipe.startup_scripts, 1):
        text = script.script if script.script.startswith("#!") else f"#!/bin/sh\nset -eu\n{script.script}"
        path = f"{STARTUP_FOLDER}/{number:02}-{script.name}"
        chain = ("recipe", f"startupScripts {script.name}")
        gathering.files.add(path, File(text.rstrip("\n") + "\n", 0o755), Rank.RECIPE, chain)


def add_locale(recipe: Recipe, gathering: Gathering) -> None:
    """Add the package with the data of a locale that is not part of the C library."""
    if recipe.locale != DEFAULT_LOCALE:
        chain = ("recipe", f"locale {recipe.locale}")
        # All compiled locales, because compiling one would be a step of its own in every build.
        gathering.add_packages(("locales-all",), Rank.RECIPE, chain)
        listed = recipe.locale.replace(".UTF-8", ".utf8")
        params = (("run", "locale -a"), ("stdout", f"(?m)^{re.escape(listed)}$"))
        gathering.add_assertion(Assertion("command", params), chain)


def settle_packages(recipe: Recipe, gathering: Gathering) -> None:
    """Take the excluded packages out, and carry out the recipe's overrides.

    Raises KilnError (CATALOG, `package-clash`) where a feature needs what another replaces.
    """
    for override in recipe.package_overrides:
        chain = ("recipe", f"packageOverrides {override.action} {override.name}")
        if override.action in ("remove", "replace"):
            gathering.packages.discard(override.name)
            gathering.excluded.found.pop(override.name, None)
            gathering.excluded.add(override.name, override.name, Rank.RECIPE, chain)
        added = override.replacement if override.action == "replace" else override.name
        if override.action != "remove":
            gathering.excluded.discard(added)
            gathering.add_packages((added,), Rank.RECIPE, chain)
    for name, removal in list(gathering.excluded.found.items()):
        wish = gathering.packages.found.get(name)
        if wish is None:
            continue
        if wish.rank > removal.rank:
            gathering.excluded.discard(name)
        elif wish.rank == removal.rank:
            raise KilnError(
                Domain.CATALOG,
                "package-clash",
                f"the package `{name}` is both asked for and excluded",
                detail=f"{wish.reason}\nexcluded: {removal.reason}",
                hint="leave out one of the two features",
                exit_status=ExitStatus.USAGE,
            )
        else:
            gathering.packages.discard(name)


def add_assertions(recipe: Recipe, gathering: Gathering, selected: Sequence[Selected]) -> None:
    """Add the assertions that every image has, and those that follow from each thing that was gathered."""
    every = ("every image",)
    gathering.add_assertion(Assertion("systemd_no_failed"), every)
    gathering.add_assertion(Assertion("login_prompt"), every)
    hostname = recipe.networking.hostname or recipe.name
    gathering.add_assertion(
        Assertion("command", (("run", "cat /proc/sys/kernel/hostname"), ("stdout", f"^{re.escape(hostname)}$"))), every
    )
    for name, wish in sorted(gathering.packages.found.items()):
        if wish.rank >= Rank.HARDENING:
            gathering.add_assertion(Assertion("package_installed", (("name", name),)), wish.chain)
    for name, removal in sorted(gathering.excluded.found.items()):
        gathering.add_assertion(Assertion("package_not_installed", (("name", name),)), removal.chain)
    for unit, state, reason in gathering.services.sorted():
        if state == "enabled":
            gathering.add_assertion(Assertion("service_enabled", (("name", unit),)), reason.chain)
        elif state == "masked":
            params = (("exit", 1), ("run", f"systemctl is-enabled {unit}"), ("stdout", "^masked"))
            gathering.add_assertion(Assertion("command", params), reason.chain)
    for port in gathering.ports.values():
        listening = Assertion("port_listening", (("port", port.port), ("protocol", port.protocol)))
        gathering.add_assertion(listening, port.reason.chain)
    for key, value, reason in gathering.sysctls.sorted():
        gathering.add_assertion(Assertion("sysctl", (("key", key), ("value", value))), reason.chain)
    for name, user in sorted(gathering.users.found.items()):
        gathering.add_assertion(Assertion("user_exists", (("name", name),)), user.chain)
