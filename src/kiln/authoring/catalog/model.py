"""What a recipe became: the resolution, with one reason for each thing that it adds.

A *reason* is a chain from the cause to the thing, such as `request "Docker" > feature docker`; a thing that
several causes ask for keeps the first one in the order of the features, and lists the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kiln.authoring.recipe.model import Assertion, BootLoader


@dataclass(frozen=True, slots=True)
class Reason:
    """Why something is there: the chain from the cause, outermost first; never empty."""

    chain: tuple[str, ...]
    also: tuple[str, ...] = ()
    """Further causes of the same thing, and what it won against (`instead of 0: hardening strict > ip-forwarding`)."""

    def __str__(self) -> str:
        return " > ".join(self.chain)


@dataclass(frozen=True, slots=True)
class Mirror:
    """A suite of an apt archive that a base reads, by the archive's logical name."""

    mirror: str
    suite: str
    components: tuple[str, ...]
    keyring: str
    """File name below the keyring directories, e.g. `debian-archive-keyring.gpg`."""


@dataclass(frozen=True, slots=True)
class Base:
    """A distribution's release as a data file describes it: what differs between distributions is data."""

    id: str
    title: str
    family: Literal["deb", "rpm"]
    distribution: str
    codename: str
    version: str
    architectures: tuple[str, ...]
    mirrors: tuple[Mirror, ...]
    packages: tuple[str, ...]
    """Installed in every image of this base, beside what is essential."""
    kernels: tuple[tuple[str, str], ...]
    """Flavour -> package."""
    default_kernel: str
    boot_packages: tuple[str, ...]
    build_root_packages: tuple[str, ...]
    """Tools that run the stages; a tree of its own, never part of the image."""
    default_disk_bytes: int
    recommends: bool = False


@dataclass(frozen=True, slots=True)
class PackageWish:
    """A binary package that must be in the image."""

    name: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class FileWish:
    """A file with literal content."""

    path: str
    content: str
    mode: int
    owner: str
    group: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class RemovalWish:
    """A file or folder that packages leave behind and that must not be in an image, such as an SSH host key."""

    path: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class ServiceWish:
    """A systemd unit and the state it must have at boot."""

    unit: str
    state: Literal["enabled", "disabled", "masked"]
    reason: Reason


@dataclass(frozen=True, slots=True)
class SysctlWish:
    """A kernel setting."""

    key: str
    value: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class UserWish:
    """An account; *system* ones have no password, no login and a fixed home."""

    name: str
    system: bool
    shell: str
    home: str
    groups: tuple[str, ...]
    comment: str
    ssh_keys: tuple[str, ...]
    password_hash: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class PortWish:
    """A port on which a feature listens. *exposed* says that the firewall lets others in."""

    port: int
    protocol: Literal["tcp", "udp"]
    exposed: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class AssertionWish:
    """One check of the booted image and who asked for it."""

    assertion: Assertion
    reason: Reason


@dataclass(frozen=True, slots=True)
class ResolvedFeature:
    """A feature that is in, with all its options settled."""

    id: str
    version: str
    options: tuple[tuple[str, object], ...]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Resolution:
    """Everything that the recipe and the catalogue together ask for; lists are sorted, names are unique."""

    recipe_digest: str
    base: Base
    name: str
    hostname: str
    locale: str
    timezone: str
    features: tuple[ResolvedFeature, ...]
    packages: tuple[PackageWish, ...]
    excluded_packages: tuple[str, ...]
    files: tuple[FileWish, ...]
    services: tuple[ServiceWish, ...]
    sysctls: tuple[SysctlWish, ...]
    users: tuple[UserWish, ...]
    ports: tuple[PortWish, ...]
    assertions: tuple[AssertionWish, ...]
    kernel_flavour: str
    kernel_package: str
    kernel_cmdline: str
    disk_bytes: int
    removals: tuple[RemovalWish, ...] = ()
    """Removed after the packages are installed and before the files are written."""
    boot: BootLoader = "grub"
    outputs: tuple[str, ...] = ()
    """Further forms of the image, sorted (`kiln.authoring.recipe.outputs`)."""
