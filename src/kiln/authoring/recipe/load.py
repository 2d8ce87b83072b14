"""Reading of recipes: JSON, YAML or TOML in, a `Recipe` or one error with everything that is wrong out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from kiln.authoring.recipe import accounts, machine, rules, sections
from kiln.authoring.recipe.checks import recipe_test
from kiln.authoring.recipe.model import BootLoader, FeatureChoice, HardeningLevel, Recipe, Security
from kiln.authoring.recipe.network import networking
from kiln.authoring.recipe.nodes import NodeError, read_nodes
from kiln.authoring.recipe.outputs import BOOT_LOADERS, OUTPUT_NAMES
from kiln.authoring.recipe.problems import Problems, did_you_mean
from kiln.authoring.recipe.sections import flag, listed, optional
from kiln.authoring.recipe.spellings import SECTION, spellings
from kiln.authoring.recipe.toml_nodes import read_toml
from kiln.authoring.recipe.values import Value, shown
from kiln.errors import Domain, ExitStatus, KilnError, Place

KIND: Final = "kiln.recipe/v1"
HARDENING_LEVELS: Final = ("none", "minimal", "standard", "strict")
MAX_NAME: Final = 63  # of a DNS label: the name is the host name where none is given

TOML_SUFFIX: Final = ".toml"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue has, so that an unknown name is refused where it was written."""

    features: frozenset[str]
    bases: frozenset[str]


@dataclass(frozen=True, slots=True)
class RecipeDefaults:
    """What holds where a recipe says nothing: from the settings. An empty *base* means that a recipe must name one."""

    base: str = ""
    hardening: HardeningLevel = "standard"


def read_recipe(data: bytes, file: str, known: Known | None = None, defaults: RecipeDefaults | None = None) -> Recipe:
    """Read a recipe in any of its spellings; *file* is the name that errors show, and says whether it is TOML.

    Raises KilnError (RECIPE; CATALOG for `unknown-feature` and `unknown-base`, where *known* is given) with the first
    problem of the file as its message and the others in its detail.
    """
    try:
        root = read_toml(data) if file.lower().endswith(TOML_SUFFIX) else read_nodes(data)
    except NodeError as error:
        place = Place(file, error.line, error.column)
        raise KilnError(Domain.RECIPE, "syntax", error.problem, place, exit_status=ExitStatus.USAGE) from None
    problems = Problems(file)
    recipe = _recipe(Value(root, "", problems), known, defaults or RecipeDefaults())
    problems.check()
    if recipe is None:
        raise AssertionError("a recipe that could not be read has a problem")
    return recipe


def default_name(features: tuple[FeatureChoice, ...]) -> str:
    """Return the name of a recipe without one: what it is and what it has, whole words within 63 characters."""
    ids = [feature.id for feature in features]
    screen = any(name == "kiosk" or name.startswith("desktop-") for name in ids)
    words = ids if screen else ["server", *ids]
    name = "-".join(words)
    kept = len(words)
    while len(name) > MAX_NAME:
        kept -= 1
        name = "-".join([*words[:kept], "and", str(len(words) - kept), "more"])
    return name


def _recipe(value: Value, known: Known | None, defaults: RecipeDefaults) -> Recipe | None:
    fields = value.fields(spellings(Recipe))
    if value.kind != "object":
        return None
    if "kind" in fields:
        fields["kind"].choice((KIND,))
    features = listed(fields.get("features"), _feature_reader(known), lambda choice: choice.id)
    base: str | None = defaults.base
    if "base_image" in fields or not defaults.base:
        base = sections.required(value, fields, "base_image", rules.BASE_ID)
    if "base_image" in fields and base and known is not None and base not in known.bases:
        hint = did_you_mean(base, known.bases) or f"known: {', '.join(sorted(known.bases))}"
        fields["base_image"].problem("unknown-base", f"unknown base {shown(base)}", hint, Domain.CATALOG)

    def each(name: str, read: Callable[[Value], T | None], key: Callable[[T], object]) -> tuple[T, ...]:
        return listed(fields.get(name), read, key)

    return Recipe(
        name=optional(fields, "name", rules.RECIPE_NAME) or default_name(features),
        base_image=base or "",
        features=features,
        packages=fields["packages"].texts(rules.PACKAGE) if "packages" in fields else (),
        extra_repos=each("extra_repos", sections.repository, lambda entry: entry.name),
        custom_packages=each("custom_packages", sections.custom_package, lambda entry: entry.name),
        package_overrides=each("package_overrides", sections.override, lambda entry: entry.name),
        services=each("services", sections.service, lambda entry: entry.name),
        users=each("users", accounts.user, lambda entry: entry.username),
        security=_security(fields, defaults.hardening),
        networking=networking(fields.get("networking")),
        desktop=machine.desktop(fields.get("desktop")),
        startup_scripts=each("startup_scripts", machine.startup_script, lambda entry: entry.name),
        locale=optional(fields, "locale", rules.LOCALE, "C.UTF-8"),
        timezone=optional(fields, "timezone", rules.TIMEZONE, "UTC"),
        kernel=machine.kernel(fields.get("kernel")),
        disk=machine.disk(fields.get("disk")),
        boot=cast(BootLoader, fields["boot"].choice(BOOT_LOADERS)) if "boot" in fields else None,
        outputs=each("outputs", lambda entry: entry.choice(OUTPUT_NAMES), str),
        tests=each("tests", recipe_test, lambda entry: entry.description),
    )


def _feature_reader(known: Known | None) -> Callable[[Value], FeatureChoice | None]:
    def read(value: Value) -> FeatureChoice | None:
        choice = sections.feature(value)
        if choice is not None and known is not None and choice.id not in known.features:
            hint = did_you_mean(choice.id, known.features) or "`kiln feature list` shows all"
            value.problem("unknown-feature", f"unknown feature {shown(choice.id)}", hint, Domain.CATALOG)
        return choice

    return read


def _security(fields: dict[str, Value], hardening: HardeningLevel) -> Security:
    section = fields.get("security")
    inner = section.fields(spellings(Security)) if section is not None else {}
    for name in ("hardening_level", "audit_logging", "automatic_updates"):
        outer = fields.get(f"{SECTION}{name}")
        if outer is None:
            continue
        if name in inner:
            said = f"`{outer.path}` and `{inner[name].path}` say the same thing"
            max(outer, inner[name], key=lambda item: (item.node.line, item.node.column)).problem(
                "duplicate-key", said, "keep one of them"
            )
        inner[name] = outer
    level = inner["hardening_level"].choice(HARDENING_LEVELS) if "hardening_level" in inner else None
    default = Security(hardening)
    return Security(
        cast(HardeningLevel, level) if level else default.hardening_level,
        flag(inner, "audit_logging", default.audit_logging),
        flag(inner, "automatic_updates", default.automatic_updates),
    )
