"""What is wanted: the recipe, as frozen values. Its canonical JSON form is hashed and never contains a default
that the catalogue could change later.

A text is annotated with the rule that it follows; the published JSON Schema is made of these types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kiln.authoring.recipe import rules

BootLoader = Literal["grub", "systemd-boot", "uki"]
HardeningLevel = Literal["none", "minimal", "standard", "strict"]


@dataclass(frozen=True, slots=True)
class Assertion:
    """One check of a built image: a type of the assertion vocabulary and its parameters (JSON values)."""

    type: Annotated[str, rules.TITLE]
    params: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class RecipeTest:
    """A named group of assertions that the author of the recipe adds to those of the features."""

    description: Annotated[str, rules.TITLE]
    assertions: tuple[Assertion, ...]


@dataclass(frozen=True, slots=True)
class ExtraRepository:
    """A further apt repository; *mirror* is a logical name, *signed_by* the path of its keyring in the project."""

    name: Annotated[str, rules.SCRIPT_NAME]
    mirror: Annotated[str, rules.MIRROR]
    suite: Annotated[str, rules.SUITE]
    components: tuple[Annotated[str, rules.COMPONENT], ...]
    signed_by: Annotated[str, rules.SIGNED_BY]


@dataclass(frozen=True, slots=True)
class CustomPackage:
    """A package built from a git repository (the build service does it; until then a recipe with one is refused)."""

    name: Annotated[str, rules.PACKAGE]
    git_url: Annotated[str, rules.GIT_URL]
    branch: Annotated[str, rules.GIT_REF] = ""
    ref: Annotated[str, rules.GIT_REF] = ""
    subdir: Annotated[str, rules.SUBDIRECTORY] = ""


@dataclass(frozen=True, slots=True)
class PackageOverride:
    """A change to what the features would install."""

    name: Annotated[str, rules.PACKAGE]
    action: Literal["add", "remove", "replace"]
    replacement: Annotated[str, rules.PACKAGE] = ""


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """A systemd service with settings for the feature that owns it."""

    name: Annotated[str, rules.UNIT]
    config: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    """A person's account; system accounts belong to features."""

    username: Annotated[str, rules.USER_NAME]
    shell: Annotated[str, rules.SHELL] = "/bin/bash"
    groups: tuple[Annotated[str, rules.GROUP_NAME], ...] = ()
    home: Annotated[str, rules.HOME] = ""
    comment: Annotated[str, rules.COMMENT] = ""
    ssh_keys: tuple[Annotated[str, rules.SSH_KEY], ...] = ()
    password_hash: Annotated[str, rules.PASSWORD_HASH] = ""
    password_secret: Annotated[str, rules.SECRET_NAME] = ""
    """Name of the secret that holds the hash; the machine is given it at boot, the image never has it."""


@dataclass(frozen=True, slots=True)
class Security:
    """How far the image is hardened."""

    hardening_level: HardeningLevel = "standard"
    audit_logging: bool = False
    automatic_updates: bool = False


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface: DHCP, or a static address in CIDR spelling with its gateway."""

    name: Annotated[str, rules.INTERFACE]
    dhcp: bool = True
    address: Annotated[str, rules.NETWORK_ADDRESS] = ""
    gateway: Annotated[str, rules.ADDRESS] = ""


@dataclass(frozen=True, slots=True)
class Networking:
    """Names, interfaces and the ports opened beside those of the features (`22/tcp`)."""

    hostname: Annotated[str, rules.HOST_NAME] = ""
    interfaces: tuple[Interface, ...] = ()
    dns: tuple[Annotated[str, rules.ADDRESS], ...] = ()
    firewall_ports: tuple[Annotated[str, rules.PORT], ...] = ()


@dataclass(frozen=True, slots=True)
class Desktop:
    """Look of a desktop image; needs a desktop feature."""

    theme: Annotated[str, rules.THEME] = ""
    wallpaper: Annotated[str, rules.WALLPAPER] = ""
    favorites: tuple[Annotated[str, rules.DESKTOP_ENTRY], ...] = ()


@dataclass(frozen=True, slots=True)
class StartupScript:
    """A script that runs once, at first boot, as root."""

    name: Annotated[str, rules.SCRIPT_NAME]
    script: Annotated[str, rules.SCRIPT]


@dataclass(frozen=True, slots=True)
class Kernel:
    """Which kernel (a flavour that the base names, empty for its own choice) and additions to its command line."""

    flavour: Annotated[str, rules.FLAVOUR] = ""
    cmdline: Annotated[str, rules.CMDLINE] = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk image; *size_bytes* 0 means the base's default, an empty *layout* a single root file system."""

    size_bytes: int = 0
    layout: Annotated[str, rules.LAYOUT] = ""


@dataclass(frozen=True, slots=True)
class FeatureChoice:
    """A feature by id, with the options that differ from its defaults."""

    id: Annotated[str, rules.FEATURE_ID]
    options: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a person wants, complete and independent of any mirror's state."""

    name: Annotated[str, rules.RECIPE_NAME]
    base_image: Annotated[str, rules.BASE_ID]
    features: tuple[FeatureChoice, ...] = ()
    packages: tuple[Annotated[str, rules.PACKAGE], ...] = ()
    extra_repos: tuple[ExtraRepository, ...] = ()
    custom_packages: tuple[CustomPackage, ...] = ()
    package_overrides: tuple[PackageOverride, ...] = ()
    services: tuple[ServiceConfig, ...] = ()
    users: tuple[User, ...] = ()
    security: Security = Security()
    networking: Networking = Networking()
    desktop: Desktop | None = None
    startup_scripts: tuple[StartupScript, ...] = ()
    locale: Annotated[str, rules.LOCALE] = "C.UTF-8"
    timezone: Annotated[str, rules.TIMEZONE] = "UTC"
    kernel: Kernel = Kernel()
    disk: Disk = Disk()
    boot: BootLoader | None = None
    """What starts the kernel; None for the default, GRUB with BIOS and UEFI. The others need UEFI."""
    outputs: tuple[Annotated[str, rules.OUTPUT], ...] = ()
    """Further forms of the image, beside its disk and its root file system."""
    tests: tuple[RecipeTest, ...] = ()
