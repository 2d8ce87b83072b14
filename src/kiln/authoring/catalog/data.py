"""Loading of the catalogue's data files.

    bases/<id>.yaml        a distribution's release
    features/<id>.yaml     a feature
    hardening/<id>.yaml    a hardening level
    benchmarks/<id>.yaml   what others ask of a hardened image, and how it is checked
    system.yaml            what every image has

Files are read fast, without positions; only when one is wrong is it read again to say where.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from kiln.authoring.catalog.audit import Fault, faults
from kiln.authoring.catalog.entries import BaseEntry, Benchmark, Catalog, Feature, HardeningLevel, SystemFile
from kiln.authoring.recipe.load import Known
from kiln.authoring.recipe.nodes import Node, NodeError, read_nodes
from kiln.authoring.recipe.problems import Problem, Problems
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln_wire.codec import DocumentError, decode

MAX_FILE_BYTES: Final = 1024 * 1024
ENVIRONMENT: Final = "KILN_CATALOG"

T = TypeVar("T")


def catalog_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the catalogue: $KILN_CATALOG, else the package's own, else the checkout's.

    Raises KilnError (CATALOG, `no-catalog`).
    """
    package = Path(__file__).parents[2]
    named = environment.get(ENVIRONMENT, "")
    candidates = [Path(named)] if named else [package / "_catalog", package.parents[1] / "catalog"]
    for folder in candidates:
        if (folder / "features").is_dir():
            return folder
    raise KilnError(
        Domain.CATALOG,
        "no-catalog",
        f"there is no catalogue in {candidates[0]}",
        hint=f"set {ENVIRONMENT} to a folder with bases/, features/, hardening/ and system.yaml, or unset it",
        exit_status=ExitStatus.USAGE,
    )


def load_catalog(folder: Path | None = None) -> Catalog:
    """Load and check all data files below *folder* (default: `catalog_folder()`).

    Raises KilnError (CATALOG, `bad-catalog` or `no-catalog`) with file, line and column.
    """
    root = folder if folder is not None else catalog_folder()
    catalog = Catalog(
        bases=tuple(_sorted_kernels(entry) for entry in _load_all(root, "bases", BaseEntry)),
        features=_load_all(root, "features", Feature),
        hardening=_load_all(root, "hardening", HardeningLevel),
        system=_load(root / "system.yaml", SystemFile),
        benchmarks=_load_all(root, "benchmarks", Benchmark),
    )
    found = faults(catalog)
    if found:
        raise _error(root, found)
    return catalog


def known(catalog: Catalog) -> Known:
    """Return the names that a recipe may use."""
    return Known(
        frozenset(feature.id for feature in catalog.features), frozenset(entry.base.id for entry in catalog.bases)
    )


def _load_all(root: Path, kind: str, cls: type[T]) -> tuple[T, ...]:
    paths = sorted((root / kind).glob("*.yaml"), key=lambda path: path.stem)
    entries = []
    for path in paths:
        entry = _load(path, cls)
        name = entry.base.id if isinstance(entry, BaseEntry) else getattr(entry, "id", "")
        if name != path.stem:
            raise _error(root, [Fault(f"{kind}/{path.name}", "id", f"the id `{name}` is not the name of the file")])
        entries.append(entry)
    return tuple(entries)


def _load(path: Path, cls: type[T]) -> T:
    try:
        data = path.read_bytes()
        document = yaml.load(data, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except OSError as error:
        raise _refusal(f"cannot read it: {error.strerror}", Place(str(path))) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise _syntax_error(path) from None
    try:
        return decode(cls, document)
    except DocumentError as error:
        raise _refusal(error.problem, _place(path, error.path.removeprefix("$").removeprefix("."))) from None


class _Loader(yaml.CSafeLoader):
    """The safe loader with YAML 1.2's core schema, as in `read_nodes`, that refuses a key that stands twice."""

    yaml_implicit_resolvers: Any = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        result: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(result) != len(node.value):
            raise yaml.YAMLError("a key stands twice")
        return result


for _tag, _pattern, _first in (
    ("bool", r"true|false", "tf"),
    ("null", r"~|null|", ["~", "n", ""]),
    ("int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?[0-9]+\.[0-9]+", "-0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def _sorted_kernels(entry: BaseEntry) -> BaseEntry:
    return replace(entry, base=replace(entry.base, kernels=tuple(sorted(entry.base.kernels))))


def _syntax_error(path: Path) -> KilnError:
    try:
        read_nodes(path.read_bytes(), is_json=False)
    except NodeError as error:
        return _refusal(error.problem, Place(str(path), error.line, error.column))
    return _refusal("a key stands twice, or a value that is not plain data", Place(str(path)))


def _error(root: Path, found: list[Fault]) -> KilnError:
    problems = [(fault, _place(root / fault.file, fault.path)) for fault in found]
    first = problems[0][1]
    collected = Problems(first.file)
    if all(place.file == first.file for _, place in problems):
        for fault, place in problems:
            problem = Problem("bad-catalog", fault.problem, place.line or 1, place.column or 1, fault.path)
            collected.add(replace(problem, domain=Domain.CATALOG))
        return collected.error()
    error = _refusal(problems[0][0].problem, first)
    error.detail = "\n".join(f"{place}: {fault.problem}" for fault, place in problems[1:21])
    return error


def _place(path: Path, inside: str) -> Place:
    """Read the file again, this time with positions, and find the place of a path such as `files[0].mode`."""
    try:
        node = read_nodes(path.read_bytes(), is_json=False)
    except (OSError, NodeError):
        return Place(str(path), path=inside)
    for step in inside.replace("[", ".[").split("."):
        found = _step(node, step)
        if found is None:
            break
        node = found
    return Place(str(path), node.line, node.column, inside)


def _step(node: Node, step: str) -> Node | None:
    if step.startswith("["):
        index = int(step[1:-1])
        return node.items[index] if index < len(node.items) else None
    return next((value for key, value in node.entries if key.scalar == step), None)


def _refusal(message: str, place: Place) -> KilnError:
    return KilnError(
        Domain.CATALOG,
        "bad-catalog",
        message,
        place,
        hint="the form of the catalogue's files is in its README.md",
        exit_status=ExitStatus.USAGE,
    )
