"""Recipe and catalogue to resolution: what must be in the image, with one reason for each thing.

Pure: the same recipe and the same catalogue give the same resolution, byte for byte. In this order: what cannot be
built is refused; the features are selected; their options are settled; their ports are known; then packages, files,
services and so on of the features, of hardening, of every image and of the recipe itself are gathered; then the
assertions that follow from what was gathered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from kiln.authoring.catalog import follow, refuse
from kiln.authoring.catalog.entries import Catalog, Content, HardeningLevel, Part
from kiln.authoring.catalog.gather import Gathering, Rank
from kiln.authoring.catalog.model import Base, PortWish, Reason, Resolution, ResolvedFeature, UserWish
from kiln.authoring.catalog.select import Seed, Selected, select
from kiln.authoring.catalog.settle import defaults_of_all, qualified, settle
from kiln.authoring.recipe.canonical import recipe_digest
from kiln.authoring.recipe.model import Recipe
from kiln.authoring.recipe.outputs import ALWAYS

Values = dict[str, object]


def resolve(recipe: Recipe, catalog: Catalog, causes: Mapping[str, str] | None = None) -> Resolution:
    """Return everything that *recipe* asks for.

    *causes* says where a choice of the recipe comes from, such as `request "Docker"`: by feature id, and for
    `hardening` and `base`; a choice without one comes from the recipe. Raises KilnError (CATALOG).
    """
    return _Resolving(recipe, catalog, causes or {}).resolution()


@dataclass(frozen=True, slots=True)
class _Source:
    """Content, the values for its templates, who asks for it and why."""

    content: Content
    values: Values
    rank: Rank
    chain: tuple[str, ...]


class _Resolving:
    def __init__(self, recipe: Recipe, catalog: Catalog, causes: Mapping[str, str]) -> None:
        self.recipe = recipe
        self.catalog = catalog
        self.causes = causes
        self.base: Base = refuse.checked_base(recipe, catalog)
        self.levels: tuple[HardeningLevel, ...] = catalog.levels(recipe.security.hardening_level)
        self.level_names = tuple(level.id for level in self.levels)
        self.selected: tuple[Selected, ...] = select(catalog, self.base, self.seeds())
        self.base = replace(self.base, mirrors=follow.archives(recipe, self.base, self.selected))
        said = refuse.options_said(recipe, self.selected)
        self.options: dict[str, Values] = {
            chosen.feature.id: dict(settle(chosen.feature, self.level_names, said.get(chosen.feature.id, {}).items()))
            for chosen in self.selected
        }
        self.present = {name for chosen in self.selected for name in (chosen.feature.id, *chosen.feature.provides)}
        self.gathering = Gathering(self.base)

    def seeds(self) -> Iterator[Seed]:
        recipe = self.recipe
        for choice in recipe.features:
            yield Seed(choice.id, (self.causes.get(choice.id, "recipe"),))
        if recipe.security.automatic_updates:
            yield Seed("automatic-updates", ("recipe", "security.automaticUpdates"))
        if recipe.security.audit_logging:
            yield Seed("audit", ("recipe", "security.auditLogging"))
        for level in self.levels:
            for name in level.requires:
                yield Seed(name, self.hardening_chain(level))

    def hardening_chain(self, level: HardeningLevel) -> tuple[str, ...]:
        return (self.causes.get("hardening", "recipe"), f"hardening {level.id}")

    def resolution(self) -> Resolution:
        recipe, gathering = self.recipe, self.gathering
        # The sources are gone through twice: first for the ports, because files (the firewall's) name them all.
        for source in self.sources({}):
            gathering.add_ports(source.content, source.values, source.chain)
        opened = self.open_ports()
        gathering.add_packages(self.base.packages, Rank.SYSTEM, self.base_chain())
        kernel = follow.kernel(recipe, self.base, self.selected)
        gathering.add_packages((kernel.package, *self.base.boot_packages), Rank.SYSTEM, (*self.base_chain(), "boot"))
        for source in self.sources(opened):
            gathering.add(source.content, source.values, source.rank, source.chain)
        self.add_recipe()
        follow.settle_packages(recipe, gathering)
        follow.add_assertions(recipe, gathering, self.selected)
        return Resolution(
            recipe_digest=str(recipe_digest(recipe)),
            base=self.base,
            name=recipe.name,
            hostname=self.hostname(),
            locale=recipe.locale,
            timezone=recipe.timezone,
            features=tuple(
                ResolvedFeature(
                    chosen.feature.id,
                    chosen.feature.version,
                    tuple(sorted(self.options[chosen.feature.id].items())),
                    chosen.reason,
                )
                for chosen in self.selected
            ),
            packages=gathering.package_wishes(),
            excluded_packages=tuple(sorted(gathering.excluded.found)),
            files=gathering.file_wishes(),
            services=gathering.service_wishes(),
            sysctls=gathering.sysctl_wishes(),
            users=gathering.user_wishes(),
            ports=gathering.port_wishes(),
            assertions=gathering.assertion_wishes(),
            kernel_flavour=kernel.flavour,
            kernel_package=kernel.package,
            kernel_cmdline=" ".join(gathering.cmdline),
            disk_bytes=recipe.disk.size_bytes or self.base.default_disk_bytes,
            removals=gathering.removal_wishes(),
            boot=recipe.boot or "grub",
            outputs=tuple(sorted(name for name in recipe.outputs if name not in ALWAYS)),
        )

    def base_chain(self) -> tuple[str, ...]:
        return (self.causes.get("base", "recipe"), f"base {self.base.id}")

    def hostname(self) -> str:
        return self.recipe.networking.hostname or self.recipe.name

    def sources(self, opened: Values) -> Iterator[_Source]:
        """Every piece of content whose conditions hold, in the order in which reasons are kept."""
        common = self.common_values() | opened
        for chosen in self.selected:
            feature, options = chosen.feature, self.options[chosen.feature.id]
            values = common | options
            yield _Source(feature, values, Rank.FEATURE, chosen.reason.chain)
            for part in self.holding(feature.parts, options):
                yield _Source(part, values, Rank.FEATURE, (*chosen.reason.chain, f"part {part.id}"))
        controls: dict[str, tuple[HardeningLevel, Part]] = {}
        for level in self.levels:
            controls |= {control.id: (level, control) for control in level.controls}
        for level, control in controls.values():
            for part in self.holding((control,), {}):
                yield _Source(part, common, Rank.HARDENING, (*self.hardening_chain(level), f"control {part.id}"))
        for part in self.holding(self.catalog.system.parts, {}):
            yield _Source(part, common, Rank.SYSTEM, (*self.base_chain(), f"system {part.id}"))

    def holding(self, parts: Sequence[Part], options: Values) -> Iterator[Part]:
        """The parts whose conditions all hold."""
        return (part for part in parts if all(self.holds(condition, options) for condition in part.when))

    def common_values(self) -> Values:
        recipe = self.recipe
        settled = {
            qualified(feature_id, name): value
            for feature_id, options in self.options.items()
            for name, value in options.items()
        }
        return {
            **defaults_of_all(self.catalog.features, self.level_names),
            **settled,
            "base": self.base.id,
            "distribution": self.base.distribution,
            "codename": self.base.codename,
            "hardening": recipe.security.hardening_level,
            "hostname": self.hostname(),
            "locale": recipe.locale,
            "timezone": recipe.timezone,
            "dns": recipe.networking.dns,
            "features": tuple(sorted(chosen.feature.id for chosen in self.selected)),
            "password_secrets": follow.password_secrets(recipe),
            "exposed_tcp": (),
            "exposed_udp": (),
        }

    def holds(self, condition: str, options: Values) -> bool:
        """Whether a condition of a part holds; the loading of the catalogue has checked its form."""
        words = condition.split()
        wanted = words[0] != "not"
        kind, name = words[-2:]
        match kind:
            case "feature":
                found = name in self.present
            case "option":
                found = bool(options[name])
            case "base":
                found = name in (self.base.id, self.base.distribution, self.base.codename)
            case "level":
                found = name in self.level_names
            case _:
                found = name in follow.given(self.recipe)
        return found == wanted

    def open_ports(self) -> Values:
        """Add the ports that the recipe opens, and return the lists of what others may reach."""
        opened: set[tuple[int, str]] = {
            (wish.port, wish.protocol) for wish in self.gathering.ports.values() if wish.exposed
        }
        for text in self.recipe.networking.firewall_ports:
            number, _, protocol = text.partition("/")
            key = (int(number), protocol)
            opened.add(key)
            wish = self.gathering.ports.get(key)
            if wish is not None and not wish.exposed:
                also = (*wish.reason.also, "exposed: recipe > networking.firewallPorts")
                reason = Reason(wish.reason.chain, also)
                self.gathering.ports[key] = PortWish(wish.port, wish.protocol, True, reason)
        return {
            f"exposed_{protocol}": tuple(sorted(port for port, name in opened if name == protocol))
            for protocol in ("tcp", "udp")
        }

    def add_recipe(self) -> None:
        """Add what the recipe itself says."""
        recipe, gathering = self.recipe, self.gathering
        gathering.add_packages(recipe.packages, Rank.RECIPE, ("recipe", "packages"))
        for user in recipe.users:
            chain = ("recipe", f"user {user.username}")
            home = user.home or f"/home/{user.username}"
            wish = UserWish(
                user.username, False, user.shell, home, user.groups, user.comment, user.ssh_keys, user.password_hash,
                Reason(chain),
            )  # fmt: skip
            gathering.users.add(user.username, wish, Rank.FEATURE, chain)
        for unit in refuse.units_said(recipe, self.selected):
            gathering.services.add(unit, "enabled", Rank.RECIPE, ("recipe", "services"))
        follow.add_network(recipe, gathering)
        follow.add_startup_scripts(recipe, gathering)
        follow.add_locale(recipe, gathering)
        for test in recipe.tests:
            for assertion in test.assertions:
                gathering.add_assertion(assertion, ("recipe", f"test {test.description}"))
        gathering.add_cmdline(recipe.kernel.cmdline)
