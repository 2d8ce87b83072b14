"""What is wanted: the recipe, as frozen values. Its canonical JSON form is hashed and never contains a default
that the catalogue could change later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BootLoader = Literal["grub", "systemd-boot", "uki"]
HardeningLevel = Literal["none", "minimal", "standard", "strict"]


@dataclass(frozen=True, slots=True)
class Assertion:
    """One check of a built image: a type of the assertion vocabulary and its parameters (JSON values)."""

    type: str
    params: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class RecipeTest:
    """A named group of assertions that the author of the recipe adds to those of the features."""

    description: str
    assertions: tuple[Assertion, ...]


@dataclass(frozen=True, slots=True)
class ExtraRepository:
    """A further apt repository; *mirror* is a logical name, *signed_by* the path of its keyring in the project."""

    name: str
    mirror: str
    suite: str
    components: tuple[str, ...]
    signed_by: str


@dataclass(frozen=True, slots=True)
class CustomPackage:
    """A package built from a git repository (the build service does it; until then a recipe with one is refused)."""

    name: str
    git_url: str
    branch: str = ""
    ref: str = ""
    subdir: str = ""


@dataclass(frozen=True, slots=True)
class PackageOverride:
    """A change to what the features would install."""

    name: str
    action: Literal["add", "remove", "replace"]
    replacement: str = ""


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """A systemd service with settings for the feature that owns it."""

    name: str
    config: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class User:
    """A person's account; system accounts belong to features."""

    username: str
    shell: str = "/bin/bash"
    groups: tuple[str, ...] = ()
    home: str = ""
    comment: str = ""
    ssh_keys: tuple[str, ...] = ()
    password_hash: str = ""


@dataclass(frozen=True, slots=True)
class Security:
    """How far the image is hardened."""

    hardening_level: HardeningLevel = "standard"
    audit_logging: bool = False
    automatic_updates: bool = False


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface: DHCP, or a static address in CIDR spelling with its gateway."""

    name: str
    dhcp: bool = True
    address: str = ""
    gateway: str = ""


@dataclass(frozen=True, slots=True)
class Networking:
    """Names, interfaces and the ports opened beside those of the features (`22/tcp`)."""

    hostname: str = ""
    interfaces: tuple[Interface, ...] = ()
    dns: tuple[str, ...] = ()
    firewall_ports: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Desktop:
    """Look of a desktop image; needs a desktop feature."""

    theme: str = ""
    wallpaper: str = ""
    favorites: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StartupScript:
    """A script that runs once, at first boot, as root."""

    name: str
    script: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """Which kernel (a flavour that the base names, empty for its own choice) and additions to its command line."""

    flavour: str = ""
    cmdline: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """The disk image; *size_bytes* 0 means the base's default."""

    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FeatureChoice:
    """A feature by id, with the options that differ from its defaults."""

    id: str
    options: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a person wants, complete and independent of any mirror's state."""

    name: str
    base_image: str
    features: tuple[FeatureChoice, ...] = ()
    packages: tuple[str, ...] = ()
    extra_repos: tuple[ExtraRepository, ...] = ()
    custom_packages: tuple[CustomPackage, ...] = ()
    package_overrides: tuple[PackageOverride, ...] = ()
    services: tuple[ServiceConfig, ...] = ()
    users: tuple[User, ...] = ()
    security: Security = Security()
    networking: Networking = Networking()
    desktop: Desktop | None = None
    startup_scripts: tuple[StartupScript, ...] = ()
    locale: str = "C.UTF-8"
    timezone: str = "UTC"
    kernel: Kernel = Kernel()
    disk: Disk = Disk()
    boot: BootLoader | None = None
    """What starts the kernel; None for the default, GRUB with BIOS and UEFI. The others need UEFI."""
    outputs: tuple[str, ...] = ()
    """Further forms of the image, beside its disk and its root file system."""
    tests: tuple[RecipeTest, ...] = ()
