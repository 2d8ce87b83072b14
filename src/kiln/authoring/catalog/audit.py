"""Checks of the catalogue's data that its types cannot make: names, templates, defaults, and what refers to what."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from kiln.authoring.catalog.entries import Benchmark, Catalog, Content, Feature, HardeningLevel, Part
from kiln.authoring.catalog.gather import filled
from kiln.authoring.catalog.model import Base
from kiln.authoring.catalog.settle import default, defaults_of_all, fault
from kiln.authoring.catalog.template import TemplateError, render
from kiln.authoring.recipe import rules
from kiln.authoring.recipe.assertions import VOCABULARY
from kiln.authoring.recipe.checks import params_problems
from kiln.authoring.recipe.load import HARDENING_LEVELS

GIVEN: Final = ("dns", "interfaces", "password-secrets", "startup-scripts", "users")
COMMON_VALUES: Final[dict[str, object]] = {
    "base": "debian-12",
    "distribution": "debian",
    "codename": "bookworm",
    "hardening": "standard",
    "hostname": "host",
    "locale": "C.UTF-8",
    "timezone": "UTC",
    "dns": (),
    "features": (),
    "password_secrets": (),
    "exposed_tcp": (22,),
    "exposed_udp": (),
}
"""Examples of the values that every template may use beside its feature's options."""

_CONDITION: Final = re.compile(r"(?:not )?(?P<kind>feature|option|base|level|given) (?P<name>[a-z0-9._-]+)")
_SYSCTL: Final = re.compile(r"[a-z0-9_]+(?:[./][a-zA-Z0-9_-]+)+")
_MODE: Final = re.compile(r"0[0-7]{3}|[1-7][0-7]{3}")
_VERSION: Final = re.compile(r"[0-9]+(?:\.[0-9]+){0,2}")


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a data file: which, where inside, what."""

    file: str
    path: str
    problem: str


def faults(catalog: Catalog) -> list[Fault]:
    """Return everything that is wrong with *catalog*."""
    return list(_faults(catalog))


def _faults(catalog: Catalog) -> Iterator[Fault]:
    names = {name for feature in catalog.features for name in (feature.id, *feature.provides)}
    for feature in catalog.features:
        for path, problem in (*_feature(feature, names, catalog), *_options(feature)):
            yield Fault(f"features/{feature.id}.yaml", path, problem)
    for level in catalog.hardening:
        for path, problem in _level(level, names, catalog):
            yield Fault(f"hardening/{level.id}.yaml", path, problem)
    for benchmark in catalog.benchmarks:
        for path, problem in _benchmark(benchmark, names, catalog):
            yield Fault(f"benchmarks/{benchmark.id}.yaml", path, problem)
    for index, part in enumerate(catalog.system.parts):
        for path, problem in _part(part, COMMON_VALUES, names, {}):
            yield Fault("system.yaml", f"parts[{index}].{path}", problem)
    for entry in catalog.bases:
        for path, problem in _base(entry.base):
            yield Fault(f"bases/{entry.base.id}.yaml", path, problem)


def _level(level: HardeningLevel, names: set[str], catalog: Catalog) -> Iterator[tuple[str, str]]:
    if level.id not in HARDENING_LEVELS or level.id == "none":
        yield "id", "not a hardening level"
    lower = HARDENING_LEVELS[: HARDENING_LEVELS.index(level.id)] if level.id in HARDENING_LEVELS else ()
    if level.includes and (level.includes not in lower or not catalog.levels(level.includes)):
        yield "includes", "not a lower hardening level of the catalogue"
    yield from (("requires", f"no feature is `{name}`") for name in level.requires if name not in names)
    for index, control in enumerate(level.controls):
        for path, problem in _part(control, COMMON_VALUES, names, {}):
            yield f"controls[{index}].{path}", problem


def _benchmark(benchmark: Benchmark, names: set[str], catalog: Catalog) -> Iterator[tuple[str, str]]:
    parts = {part.id for level in catalog.hardening for part in level.controls} | {p.id for p in catalog.system.parts}
    seen: set[str] = set()
    for index, control in enumerate(benchmark.controls):
        path = f"controls[{index}]"
        if not rules.FEATURE_ID.accepts(control.id) or control.id in seen:
            yield f"{path}.id", f"`{control.id}` is not an id, or stands twice"
        seen.add(control.id)
        if control.level not in (1, 2):
            yield f"{path}.level", "neither 1 nor 2"
        if bool(control.check) == bool(control.never):
            yield path, "a control has either `check` or `never`"
        for name in control.set_by:
            if name not in names | parts | {"base"}:
                yield f"{path}.setBy", f"there is no control and no feature `{name}`"


def _base(base: Base) -> Iterator[tuple[str, str]]:
    if base.default_kernel not in dict(base.kernels):
        yield "base.defaultKernel", "not one of the kernels"
    lists = {"packages": base.packages, "bootPackages": base.boot_packages}
    for key, listed in (lists | {"buildRootPackages": base.build_root_packages}).items():
        for index, name in enumerate(listed):
            if not rules.PACKAGE.accepts(name):
                yield f"base.{key}[{index}]", f"`{name}` is not a package name"


def _feature(feature: Feature, names: set[str], catalog: Catalog) -> Iterator[tuple[str, str]]:
    if not rules.FEATURE_ID.accepts(feature.id):
        yield "id", "not a feature id"
    if not _VERSION.fullmatch(feature.version):
        yield "version", "not a version such as 1.0"
    for name in feature.requires:
        if name not in names:
            yield "requires", f"no feature is or provides `{name}`"
    for distribution, listed in feature.components:
        for name in listed:
            if not rules.COMPONENT.accepts(name):
                yield f"components.{distribution}", f"`{name}` is not a component"
    bases = {name for entry in catalog.bases for name in (entry.base.id, entry.base.distribution)}
    for name in feature.bases:
        if name not in bases:
            yield "bases", f"no base is `{name}`"
    values = (
        COMMON_VALUES
        | defaults_of_all(catalog.features, ())
        | {name: default(option, ()) for name, option in feature.options}
    )
    yield from _content(feature, values)
    for index, part in enumerate(feature.parts):
        for path, problem in _part(part, values, names, dict(feature.options)):
            yield f"parts[{index}].{path}", problem


def _options(feature: Feature) -> Iterator[tuple[str, str]]:
    for name, option in feature.options:
        path = f"options.{name}"
        if not rules.KEY.accepts(name) or name in COMMON_VALUES:
            yield path, "not a name for an option"
        if option.type in ("text", "texts") and not option.choices and not option.pattern:
            yield path, "a text option needs `choices` or `pattern`"
        for index, level in enumerate(HARDENING_LEVELS):
            problem = fault(option, default(option, HARDENING_LEVELS[1 : index + 1]))
            if problem:
                yield path, f"default at `{level}`: {problem}"
        for level, _ in option.default_at:
            if level not in HARDENING_LEVELS:
                yield path, f"`{level}` is not a level"


def _part(
    part: Part, values: Mapping[str, object], names: set[str], options: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    for condition in part.when:
        match = _CONDITION.fullmatch(condition)
        named: dict[str, Collection[str]] = {
            "feature": names,
            "option": options,
            "given": GIVEN,
            "level": HARDENING_LEVELS,
        }
        if match is None or (match["kind"] in named and match["name"] not in named[match["kind"]]):
            yield "when", f"`{condition}` is not a condition"
    yield from _content(part, values)


def _content(content: Content, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    yield from _names(content)
    for index, file in enumerate(content.files):
        yield from _rendered(f"files[{index}].content", file.content, values)
    for key, value in content.sysctls:
        yield from _rendered(f"sysctls.{key}", value, values)
    for index, port in enumerate(content.ports):
        yield from _port(f"ports[{index}]", port.port, port.exposed, values)
    for index, word in enumerate(content.cmdline):
        yield from _rendered(f"cmdline[{index}]", word, values)
    for index, entry in enumerate(content.assertions):
        yield from _assertion(f"assertions[{index}]", entry, values)


def _names(content: Content) -> Iterator[tuple[str, str]]:
    units = content.services
    checked = [
        *((f"packages.{scope}", name, rules.PACKAGE.accepts) for scope, listed in content.packages for name in listed),
        *((f"files[{index}].path", file.path, rules.safe_path) for index, file in enumerate(content.files)),
        *((f"files[{index}].mode", file.mode, _is_mode) for index, file in enumerate(content.files)),
        *((f"removals[{index}]", path, rules.safe_path) for index, path in enumerate(content.removals)),
        *(("services", unit, _is_unit) for unit in (*units.enabled, *units.disabled, *units.masked)),
        *((f"sysctls.{key}", key, _is_sysctl) for key, _ in content.sysctls),
    ]
    for path, text, accepts in checked:
        if not accepts(text):
            yield path, f"`{text}` does not have the right form"


def _is_mode(text: str) -> bool:
    return _MODE.fullmatch(text) is not None


def _is_unit(text: str) -> bool:
    return rules.UNIT.accepts(text) and "." in text


def _is_sysctl(text: str) -> bool:
    return _SYSCTL.fullmatch(text) is not None


def _port(path: str, port: str, exposed: str, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    try:
        if not rules.PORT.accepts(f"{render(port, values)}/tcp"):
            yield f"{path}.port", "not a port"
        if render(exposed, values) not in ("yes", "no"):
            yield f"{path}.exposed", "neither yes nor no"
    except TemplateError as error:
        yield path, str(error)


def _rendered(path: str, template: str, values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    try:
        render(template, values)
    except TemplateError as error:
        yield path, str(error)


def _assertion(
    path: str, entry: tuple[tuple[str, tuple[tuple[str, object], ...]], ...], values: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    if len(entry) != 1:
        yield path, "an assertion has one type"
        return
    name, params = entry[0]
    if name not in VOCABULARY:
        yield path, f"unknown assertion `{name}`"
        return
    try:
        given = filled(name, params, values)
    except TemplateError as error:
        yield path, str(error)
        return
    for problem in params_problems(VOCABULARY[name], given):
        yield path, problem
