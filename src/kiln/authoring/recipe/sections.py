"""Reading of the parts of a recipe: users, networking, tests and so on. Each function reads one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, TypeVar, cast

from kiln.authoring.recipe import rules
from kiln.authoring.recipe.model import (
    CustomPackage,
    Desktop,
    Disk,
    ExtraRepository,
    FeatureChoice,
    Kernel,
    PackageOverride,
    ServiceConfig,
    StartupScript,
    User,
)
from kiln.authoring.recipe.rules import Rule
from kiln.authoring.recipe.sizes import parse_size, whole_mib
from kiln.authoring.recipe.values import Value, looks_secret, shown

T = TypeVar("T")

MIN_DISK_BYTES: Final = 1024**3  # a lean server with its kernel takes 700 MB
MAX_DISK_BYTES: Final = 16 * 1024**4  # ext4 with 4 KiB blocks


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
    fields = value.fields(same("id", "options"))
    name = required(value, fields, "id", rules.FEATURE_ID)
    settings = options(fields["options"]) if "options" in fields else ()
    return FeatureChoice(name, settings) if name else None


def repository(value: Value) -> ExtraRepository | None:
    """Read a further apt repository."""
    fields = value.fields(same("name", "mirror", "suite", "components", "signed_by"))
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
    fields = value.fields(same("name", "git_url", "branch", "ref", "subdir", url="git_url"))
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
    fields = value.fields(same("name", "config"))
    name = required(value, fields, "name", rules.UNIT)
    config = options(fields["config"]) if "config" in fields else ()
    return ServiceConfig(name, config) if name else None


def user(value: Value) -> User | None:
    """Read `"alice"` or the whole account."""
    if value.kind == "string":
        name = value.text(rules.USER_NAME)
        return User(name) if name else None
    known = same("username", "shell", "groups", "home", "comment", "ssh_keys", "password_hash")
    fields = value.fields(known | {"name": "username", "ssh_authorized_keys": "ssh_keys"})
    name = required(value, fields, "username", rules.USER_NAME)
    result = User(
        name or "",
        shell=optional(fields, "shell", rules.SHELL, "/bin/bash"),
        groups=fields["groups"].texts(rules.GROUP_NAME) if "groups" in fields else (),
        home=optional(fields, "home", rules.HOME),
        comment=optional(fields, "comment", rules.COMMENT),
        ssh_keys=fields["ssh_keys"].texts(rules.SSH_KEY) if "ssh_keys" in fields else (),
        password_hash=_password_hash(fields.get("password_hash")),
    )
    return result if name else None


def _password_hash(value: Value | None) -> str:
    if value is None or (value.kind == "string" and value.node.scalar == ""):
        return ""
    if value.kind == "string" and not rules.PASSWORD_HASH.accepts(str(value.node.scalar)):
        # Not shown: whoever mistook the field wrote the password itself.
        value.problem(
            "plaintext-secret", "`password_hash` is not a hash in the form of crypt(5)", rules.PASSWORD_HASH.hint
        )
        return ""
    return value.text(rules.PASSWORD_HASH) or ""


def desktop(value: Value | None) -> Desktop | None:
    """Read the look of a desktop."""
    if value is None or value.kind == "null":
        return None
    fields = value.fields(same("theme", "wallpaper", "favorites"))
    return Desktop(
        theme=optional(fields, "theme", rules.THEME),
        wallpaper=optional(fields, "wallpaper", rules.WALLPAPER),
        favorites=fields["favorites"].texts(rules.DESKTOP_ENTRY) if "favorites" in fields else (),
    )


def startup_script(value: Value) -> StartupScript | None:
    """Read a script for the first boot."""
    fields = value.fields(same("name", "script"))
    name = required(value, fields, "name", rules.SCRIPT_NAME)
    script = required(value, fields, "script", rules.SCRIPT)
    return StartupScript(name, script) if name and script else None


def kernel(value: Value | None) -> Kernel:
    """Read the kernel's flavour and command line."""
    if value is None:
        return Kernel()
    fields = value.fields(same("flavour", "cmdline", flavor="flavour"))
    return Kernel(optional(fields, "flavour", rules.FLAVOUR), optional(fields, "cmdline", rules.CMDLINE))


def disk(value: Value | None) -> Disk:
    """Read the size of the disk: bytes, or a text such as `10G`; rounded up to whole MiB."""
    if value is None:
        return Disk()
    fields = value.fields(same("size_bytes", size="size_bytes", layout="layout"))
    if "layout" in fields:
        fields["layout"].problem(
            "not-supported-yet", "a layout of one's own is not supported yet", "leave `layout` out"
        )
    if "size_bytes" not in fields:
        return Disk()
    size = fields["size_bytes"]
    wanted = (
        size.node.scalar
        if size.kind == "integer"
        else parse_size(str(size.node.scalar))
        if size.kind == "string"
        else None
    )
    if size.kind not in ("integer", "string"):
        size.problem("wrong-type", "expected a size", "such as `10G`")
    elif not isinstance(wanted, int):
        size.problem("bad-value", f"{shown(str(size.node.scalar))} is not a size", "such as `10G`")
    elif wanted != 0 and not MIN_DISK_BYTES <= wanted <= MAX_DISK_BYTES:
        size.problem("bad-value", f"a disk of {wanted} bytes", "from 1 GiB to 16 TiB")
    else:
        return Disk(whole_mib(wanted))
    return Disk()
