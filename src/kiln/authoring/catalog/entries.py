"""What the catalogue's data files hold, as frozen values: bases, features, hardening levels.

The keys in the files are the names of the fields in camelCase. Text marked *template* may hold `{{ option }}`
(`kiln.authoring.catalog.template`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kiln.authoring.catalog.model import Base

COMMON = "common"
"""The scope of packages that every base needs; the others are a base's id, distribution or code name."""

Params = tuple[tuple[str, object], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file that is written into the image; *content* is a template, *mode* is octal text."""

    path: str
    content: str
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """systemd units by the state they must have."""

    enabled: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    masked: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEntry:
    """A system account of a feature: no password, a fixed home."""

    name: str
    home: str = "/nonexistent"
    shell: str = "/usr/sbin/nologin"
    groups: tuple[str, ...] = ()
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortEntry:
    """A port that a feature listens on; *port* and *exposed* (`yes` or `no`) are templates."""

    port: str
    protocol: Literal["tcp", "udp"] = "tcp"
    exposed: str = "yes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a feature or a part of one puts into the image."""

    packages: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Scope (`common`, or a base's id, distribution or code name) -> package names."""
    removes_packages: tuple[str, ...] = ()
    """Packages of the base that this replaces."""
    files: tuple[FileEntry, ...] = ()
    removals: tuple[str, ...] = ()
    services: Services = Services()
    users: tuple[UserEntry, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    ports: tuple[PortEntry, ...] = ()
    cmdline: tuple[str, ...] = ()
    """Words for the kernel's command line; templates."""
    assertions: tuple[tuple[tuple[str, Params], ...], ...] = ()
    """Each an object with one key, the type; texts among the parameters are templates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part(Content):
    """Content with a name of its own, and the conditions (all of them) under which it is in.

    A condition is `feature docker` (or something that a feature provides), `option expose`, `base ubuntu` (id,
    distribution or code name), `level strict` (or a level above it), `given dns` (the recipe says something about it),
    each with `not` before it for the contrary.
    """

    id: str
    title: str
    when: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A setting of a feature."""

    type: Literal["integer", "boolean", "text", "texts"]
    description: str
    default: object
    default_at: tuple[tuple[str, object], ...] = ()
    """Hardening level -> default; a level without one takes that of the level below it, then *default*."""
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    """A regular expression for the whole text, or for each text of a list; required where there are no choices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature(Content):
    """A named piece of function that a recipe can ask for."""

    id: str
    version: str
    title: str
    description: str
    category: str
    synonyms: tuple[str, ...] = ()
    generic_synonyms: tuple[str, ...] = ()
    """Words for the kind of thing, of which this feature is the default; a feature named beside them wins."""
    options: tuple[tuple[str, Option], ...] = ()
    requires: tuple[str, ...] = ()
    """Feature ids or names that features provide."""
    conflicts: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    """Base ids or distributions on which it is offered; empty for all."""
    kernel: str = ""
    """The kernel flavour that it needs."""
    components: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Distribution -> further components of the base's archive that its packages come from."""
    order: int = 50
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HardeningLevel:
    """A level of hardening: its controls, and those of the level that it includes.

    A control with the id of one in the included level takes its place.
    """

    id: str
    title: str
    description: str
    synonyms: tuple[str, ...] = ()
    includes: str = ""
    requires: tuple[str, ...] = ()
    controls: tuple[Part, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseEntry:
    """A base, and the words that people use for it."""

    synonyms: tuple[str, ...]
    preferred: bool = False
    """The one that the name of the distribution alone means."""
    base: Base


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemFile:
    """What every image has on every base."""

    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Where a control of a benchmark does not apply: a shell test in the image, and why."""

    test: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkControl:
    """One thing that a benchmark asks for: how it is set, and how it is checked in the booted image."""

    id: str
    level: int
    title: str
    set_by: tuple[str, ...] = ()
    """Controls of the hardening levels, parts of the system, features, or `base`."""
    check: str = ""
    """Shell; status 0 is a pass, what it prints is what was found."""
    unless: Exemption | None = None
    never: str = ""
    """Why no image can carry it; it is reported as not applicable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A catalogue of controls by others, in our words."""

    id: str
    title: str
    controls: tuple[BenchmarkControl, ...]


@dataclass(frozen=True, slots=True)
class Catalog:
    """All data files, each mapping sorted by id."""

    bases: tuple[BaseEntry, ...]
    features: tuple[Feature, ...]
    hardening: tuple[HardeningLevel, ...]
    system: SystemFile
    benchmarks: tuple[Benchmark, ...] = ()

    def feature(self, feature_id: str) -> Feature | None:
        """Return the feature of that id."""
        return next((feature for feature in self.features if feature.id == feature_id), None)

    def base(self, base_id: str) -> BaseEntry | None:
        """Return the base of that id."""
        return next((entry for entry in self.bases if entry.base.id == base_id), None)

    def levels(self, level_id: str) -> tuple[HardeningLevel, ...]:
        """Return the hardening level of that id and those it includes, lowest first; nothing for `none`."""
        found = next((level for level in self.hardening if level.id == level_id), None)
        return () if found is None else (*self.levels(found.includes), found)

    def providers(self, name: str) -> tuple[Feature, ...]:
        """Return the features that are *name* or provide it, by order and id."""
        found = [feature for feature in self.features if name == feature.id or name in feature.provides]
        return tuple(sorted(found, key=lambda feature: (feature.id != name, feature.order, feature.id)))
