"""The things that features, hardening and recipe ask for, gathered and made one list each.

Who wins where two ask for different things: the recipe over features, features over hardening, hardening over what
every image has. Two of the same rank are a clash, and an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Generic, Literal, TypeVar

from kiln.authoring.catalog.entries import COMMON, Content, Params
from kiln.authoring.catalog.model import (
    AssertionWish,
    Base,
    FileWish,
    PackageWish,
    PortWish,
    Reason,
    RemovalWish,
    ServiceWish,
    SysctlWish,
    UserWish,
)
from kiln.authoring.catalog.template import render
from kiln.authoring.recipe.assertions import VOCABULARY
from kiln.authoring.recipe.model import Assertion
from kiln.errors import Domain, ExitStatus, KilnError

V = TypeVar("V")
State = Literal["enabled", "disabled", "masked"]
STATES: Final[tuple[State, ...]] = ("enabled", "disabled", "masked")


class Rank(IntEnum):
    """Who asks; a higher rank wins."""

    SYSTEM = 0
    HARDENING = 1
    FEATURE = 2
    RECIPE = 3


@dataclass(slots=True)
class _Wish(Generic[V]):
    value: V
    rank: Rank
    chain: tuple[str, ...]
    also: list[str] = field(default_factory=list)

    @property
    def reason(self) -> Reason:
        return Reason(self.chain, tuple(self.also))


class Wishes(Generic[V]):
    """Things by key, each with the causes that asked for it."""

    def __init__(self, noun: str, reason: str) -> None:
        self.noun = noun
        self.reason = reason
        self.found: dict[str, _Wish[V]] = {}

    def add(self, key: str, value: V, rank: Rank, chain: tuple[str, ...]) -> None:
        """Add one. Raises KilnError (CATALOG, the clash's reason) where two of one rank want different things."""
        old = self.found.get(key)
        cause = " > ".join(chain)
        if old is None:
            self.found[key] = _Wish(value, rank, chain)
        elif old.value == value:
            if cause != " > ".join(old.chain) and cause not in old.also:
                old.also.append(cause)
        elif old.rank == rank:
            raise KilnError(
                Domain.CATALOG,
                self.reason,
                f"{self.noun} `{key}` is asked for in two ways",
                detail=f"{' > '.join(old.chain)}: {_short(old.value)}\n{cause}: {_short(value)}",
                hint="leave out one of the two, or give them different settings",
                exit_status=ExitStatus.USAGE,
            )
        elif rank > old.rank:
            lost = f"instead of {_short(old.value)}: {' > '.join(old.chain)}"
            self.found[key] = _Wish(value, rank, chain, [lost])
        else:
            old.also.append(f"instead of {_short(value)}: {cause}")

    def discard(self, key: str) -> None:
        """Take one out, if it is there."""
        self.found.pop(key, None)

    def sorted(self) -> list[tuple[str, V, Reason]]:
        """Return key, value and reason of each, sorted by key."""
        return [(key, wish.value, wish.reason) for key, wish in sorted(self.found.items())]


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, slots=True)
class File:
    """What a file holds and who may read it; two features may ask for one file if all of this is equal."""

    content: str
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"

    def __str__(self) -> str:
        return f"{self.mode:04o} {self.owner}:{self.group} {self.content}"


class Gathering:
    """Everything asked for so far."""

    def __init__(self, base: Base) -> None:
        self.scopes = (COMMON, base.distribution, base.codename, base.id)
        self.packages: Wishes[str] = Wishes("the package", "package-clash")
        self.excluded: Wishes[str] = Wishes("the package", "package-clash")
        self.files: Wishes[File] = Wishes("the file", "file-clash")
        self.removals: Wishes[str] = Wishes("the removal", "file-clash")
        self.services: Wishes[State] = Wishes("the service", "service-clash")
        self.sysctls: Wishes[str] = Wishes("the kernel setting", "sysctl-clash")
        self.users: Wishes[UserWish] = Wishes("the user", "user-clash")
        self.ports: dict[tuple[int, str], PortWish] = {}
        self.assertions: dict[Assertion, Reason] = {}
        self.cmdline: list[str] = []

    def add_ports(self, content: Content, values: Mapping[str, object], chain: tuple[str, ...]) -> None:
        """Add the ports of *content*; they come first, because the files may name them."""
        for entry in content.ports:
            port = int(render(entry.port, values))
            exposed = render(entry.exposed, values) == "yes"
            self.add_port(PortWish(port, entry.protocol, exposed, Reason(chain)))

    def add_port(self, wish: PortWish) -> None:
        """Add a port on which something listens. Raises KilnError (CATALOG, `port-clash`)."""
        old = self.ports.get((wish.port, wish.protocol))
        if old is not None:
            raise KilnError(
                Domain.CATALOG,
                "port-clash",
                f"two features listen on port {wish.port}/{wish.protocol}",
                detail=f"{old.reason}\n{wish.reason}",
                hint="give one of them another port in its options",
                exit_status=ExitStatus.USAGE,
            )
        self.ports[wish.port, wish.protocol] = wish

    def add(self, content: Content, values: Mapping[str, object], rank: Rank, chain: tuple[str, ...]) -> None:
        """Add all of *content* but its ports."""
        self.add_packages(self._in_scope(content), rank, chain)
        for name in content.removes_packages:
            self.excluded.add(name, name, rank, chain)
        for file in content.files:
            written = File(render(file.content, values), int(file.mode, 8), file.owner, file.group)
            self.files.add(file.path, written, rank, chain)
        for path in content.removals:
            self.removals.add(path, path, rank, chain)
        for state in STATES:
            for unit in getattr(content.services, state):
                self.services.add(unit, state, rank, chain)
        for user in content.users:
            wish = UserWish(user.name, True, user.shell, user.home, user.groups, user.comment, (), "", Reason(chain))
            self.users.add(user.name, wish, rank, chain)
        for key, value in content.sysctls:
            self.sysctls.add(key, render(value, values), rank, chain)
        for word in content.cmdline:
            self.add_cmdline(render(word, values))
        for entry in content.assertions:
            for name, params in entry:
                self.add_assertion(Assertion(name, filled(name, params, values)), chain)

    def _in_scope(self, content: Content) -> list[str]:
        packages = dict(content.packages)
        return [name for scope in self.scopes for name in packages.get(scope, ())]

    def add_packages(self, names: Iterable[str], rank: Rank, chain: tuple[str, ...]) -> None:
        """Add packages."""
        for name in names:
            self.packages.add(name, name, rank, chain)

    def add_cmdline(self, words: str) -> None:
        """Add words to the kernel's command line, each once."""
        self.cmdline += [word for word in words.split() if word not in self.cmdline]

    def add_assertion(self, assertion: Assertion, chain: tuple[str, ...]) -> None:
        """Add an assertion; the first cause of two equal ones stays, the other is noted."""
        old = self.assertions.get(assertion)
        if old is None:
            self.assertions[assertion] = Reason(chain)
        elif chain != old.chain and " > ".join(chain) not in old.also:
            self.assertions[assertion] = Reason(old.chain, (*old.also, " > ".join(chain)))

    def package_wishes(self) -> tuple[PackageWish, ...]:
        """Return the packages, sorted."""
        return tuple(PackageWish(name, reason) for name, _, reason in self.packages.sorted())

    def file_wishes(self) -> tuple[FileWish, ...]:
        """Return the files, sorted by path."""
        return tuple(
            FileWish(path, file.content, file.mode, file.owner, file.group, reason)
            for path, file, reason in self.files.sorted()
        )

    def removal_wishes(self) -> tuple[RemovalWish, ...]:
        """Return the removals, sorted by path."""
        return tuple(RemovalWish(path, reason) for path, _, reason in self.removals.sorted())

    def service_wishes(self) -> tuple[ServiceWish, ...]:
        """Return the services, sorted by unit."""
        return tuple(ServiceWish(unit, state, reason) for unit, state, reason in self.services.sorted())

    def sysctl_wishes(self) -> tuple[SysctlWish, ...]:
        """Return the kernel settings, sorted by key."""
        return tuple(SysctlWish(key, value, reason) for key, value, reason in self.sysctls.sorted())

    def user_wishes(self) -> tuple[UserWish, ...]:
        """Return the accounts, sorted by name."""
        return tuple(wish for _, wish, _ in self.users.sorted())

    def port_wishes(self) -> tuple[PortWish, ...]:
        """Return the ports, sorted."""
        return tuple(self.ports[key] for key in sorted(self.ports))

    def assertion_wishes(self) -> tuple[AssertionWish, ...]:
        """Return the assertions, sorted by type and parameters."""
        found = sorted(self.assertions.items(), key=lambda item: (item[0].type, repr(item[0].params)))
        return tuple(AssertionWish(assertion, reason) for assertion, reason in found)


def filled(name: str, params: Iterable[tuple[str, object]], values: Mapping[str, object]) -> Params:
    """Return the parameters of an assertion of type *name* with their templates filled in. Raises TemplateError."""
    entry = VOCABULARY.get(name)
    kinds = {param.name: param.kind for param in entry.params} if entry else {}
    return tuple((key, _filled(value, kinds.get(key, "text"), values)) for key, value in params)


def _filled(value: object, kind: str, values: Mapping[str, object]) -> object:
    if isinstance(value, str):
        text = render(value, values)
        return int(text) if kind in ("integer", "port") and text.isdecimal() else text
    if isinstance(value, (list, tuple)):
        return tuple(_filled(item, "text", values) for item in value)
    return value
