"""Reading of the parts of a recipe: features, packages, services. Each function reads one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar, cast

from kiln.authoring.recipe import rules
from kiln.authoring.recipe.model import (
    CustomPackage,
    ExtraRepository,
    FeatureChoice,
    PackageOverride,
    ServiceConfig,
)
from kiln.authoring.recipe.rules import Rule
from kiln.authoring.recipe.spellings import spellings
from kiln.authoring.recipe.values import Value, looks_secret, shown

T = TypeVar("T")


def same(*names: str, **aliases: str) -> dict[str, str]:
    """Return the spellings of an object's keys: *names* for themselves, *aliases* for others."""
    return {name: name for name in names} | aliases


def listed(value: Value | None, read: Callable[[Value], T | None], key: Callable[[T], object]) -> tuple[T, ...]:
    """Read a list of objects with *read*; two that share a *key* are a problem."""
    result: list[T] = []
    seen: set[object] = set()
    for item in value.array() if value is not None else ():
        entry = read(item)
        if entry is None:
            continue
        if key(entry) in seen:
            item.problem("duplicate-value", f"`{key(entry)}` stands twice in the list", "keep one of them")
            continue
        seen.add(key(entry))
        result.append(entry)
    return tuple(result)


def optional(fields: Mapping[str, Value], name: str, rule: Rule, default: str = "") -> str:
    """Read a text that may be missing; an empty text means the default."""
    value = fields.get(name)
    if value is None or (value.kind == "string" and value.node.scalar == ""):
        return default
    return value.text(rule) or default


def required(value: Value, fields: Mapping[str, Value], name: str, rule: Rule) -> str | None:
    """Read a text that must be there."""
    if name not in fields:
        if value.kind == "object":
            value.problem("missing-key", f"the key `{name}` is missing")
        return None
    return fields[name].text(rule)


def flag(fields: Mapping[str, Value], name: str, default: bool) -> bool:
    """Read a boolean that may be missing."""
    found = fields[name].boolean() if name in fields else None
    return default if found is None else found


def options(value: Value) -> tuple[tuple[str, object], ...]:
    """Read options or parameters: an object of texts, integers, booleans and lists of them."""
    result: dict[str, object] = {}
    for name, item in value.members():
        if not rules.KEY.accepts(name):
            item.problem("bad-value", f"{shown(name)} is not a name of an option", "lower-case words joined by `_`")
        elif looks_secret(name):
            item.problem(
                "plaintext-secret",
                f"{shown(name)} looks like a secret, and a recipe must not hold one",
                "set it on the machine, after it has booted",
            )
        elif (plain := item.plain()) is not None:
            result[name] = plain
    return tuple(sorted(result.items()))


def feature(value: Value) -> FeatureChoice | None:
    """Read `"ssh"`, `{"id": "ssh", "options": {...}}` or `{"ssh": {"port": 2222}}`."""
    if value.kind != "object":
        name = value.text(rules.FEATURE_ID)
        return FeatureChoice(name) if name else None
    entries = value.node.entries
    if len(entries) == 1 and entries[0][0].scalar not in ("id", "options"):
        name_node, options_node = entries[0]
        name = Value(name_node, value.path, value.problems).text(rules.FEATURE_ID)
        inner = Value(options_node, f"{value.path}.{name_node.scalar}", value.problems)
        settings = () if inner.kind == "null" else options(inner)
        return FeatureChoice(name, settings) if name else None
    fields = value.fields(spellings(FeatureChoice))
    name = required(value, fields, "id", rules.FEATURE_ID)
    settings = options(fields["options"]) if "options" in fields else ()
    return FeatureChoice(name, settings) if name else None


def repository(value: Value) -> ExtraRepository | None:
    """Read a further apt repository."""
    fields = value.fields(spellings(ExtraRepository))
    name = required(value, fields, "name", rules.SCRIPT_NAME)
    mirror = required(value, fields, "mirror", rules.MIRROR)
    suite = required(value, fields, "suite", rules.SUITE)
    signed_by = required(value, fields, "signed_by", rules.SIGNED_BY)
    components = fields["components"].texts(rules.COMPONENT) if "components" in fields else ("main",)
    if not name or not mirror or not suite or not signed_by:
        return None
    return ExtraRepository(name, mirror, suite, components, signed_by)


def custom_package(value: Value) -> CustomPackage | None:
    """Read a package that is built from git."""
    fields = value.fields(spellings(CustomPackage))
    name = required(value, fields, "name", rules.PACKAGE)
    url = required(value, fields, "git_url", rules.GIT_URL)
    branch, ref = optional(fields, "branch", rules.GIT_REF), optional(fields, "ref", rules.GIT_REF)
    subdir = optional(fields, "subdir", rules.SUBDIRECTORY)
    return CustomPackage(name, url, branch, ref, subdir) if name and url else None


def override(value: Value) -> PackageOverride | None:
    """Read a change to the packages of the features."""
    fields = value.fields(same("name", "action", "replacement"))
    name = required(value, fields, "name", rules.PACKAGE)
    replacement = optional(fields, "replacement", rules.PACKAGE)
    if "action" not in fields:
        if value.kind == "object":
            value.problem("missing-key", "the key `action` is missing", "`add`, `remove` or `replace`")
        return None
    action = fields["action"].choice(("add", "remove", "replace"))
    if action == "replace" and not replacement and "replacement" not in fields:
        value.problem("missing-key", "the key `replacement` is missing", "say what the package is replaced by")
    elif action in ("add", "remove") and replacement:
        fields["replacement"].problem("bad-value", f"`replacement` says nothing where the action is `{action}`")
    elif name and action and (action != "replace" or replacement):
        return PackageOverride(name, cast(Literal["add", "remove", "replace"], action), replacement)
    return None


def service(value: Value) -> ServiceConfig | None:
    """Read `"nginx"` or `{"name": "nginx", "config": {...}}`."""
    if value.kind == "string":
        name = value.text(rules.UNIT)
        return ServiceConfig(name) if name else None
    fields = value.fields(spellings(ServiceConfig))
    name = required(value, fields, "name", rules.UNIT)
    config = options(fields["config"]) if "config" in fields else ()
    return ServiceConfig(name, config) if name else None
