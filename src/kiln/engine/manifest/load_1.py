"""Reading a manifest of format 1 as the plan that osbuild makes of it: the same pipelines, names and ids.

The main pipeline is `tree`; the pipelines in whose trees it is built are `build`, `build-build` and so on, innermost
first; an assembler becomes the pipeline `assembler`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kiln.engine.manifest.formats import ASSEMBLER, refuse
from kiln.engine.manifest.load import PIPELINE_PREFIX, Loader
from kiln.engine.manifest.model import ORIGIN_SOURCE, Plan, Source

TREE: Final = "tree"
BUILD: Final = "build"
ITEMS: Final[Mapping[str, str]] = {
    "org.osbuild.curl": "urls",
    "org.osbuild.ostree": "commits",
    "org.osbuild.librepo": "items",
}
"""The key of a source's items in format 1."""
RENAMED: Final[Mapping[str, str]] = {"org.osbuild.files": "org.osbuild.curl"}
"""Sources that have another name since."""


def load_1(document: Mapping[str, Any]) -> Plan:
    """Return the plan of a schema-valid manifest of format 1. Raises KilnError(MANIFEST, "invalid-manifest")."""
    sources = tuple(_source(name, source) for name, source in document.get("sources", {}).items())
    loader = Loader(known_sources={item for source in sources for item in source.items})
    pipeline = document.get("pipeline", {})
    _add(loader, pipeline, 0, None, ".pipeline")
    if pipeline.get(ASSEMBLER):
        loader.add_assembler(pipeline[ASSEMBLER])
    return Plan(tuple(loader.pipelines.values()), sources, format="1")


def source_type(name: str) -> str:
    """Return the name that a source of format 1 has in format 2."""
    return RENAMED.get(name, name)


def _source(name: str, description: Mapping[str, Any]) -> Source:
    type_ = source_type(name)
    if type_ not in ITEMS:
        raise refuse(f".sources.{name}", f"Unknown source type: {name}", hint=f"format 1 has: {', '.join(ITEMS)}")
    # osbuild passes the whole description on as the options.
    return Source(type_, description.get(ITEMS[type_], description.get("items", {})), description)


def _add(loader: Loader, description: Mapping[str, Any], depth: int, runner: str | None, path: str) -> str:
    """Add a pipeline after those that it is built in; returns its name."""
    build = description.get("build")
    inner = None
    if build:
        inner = _add(loader, build.get("pipeline") or {}, depth + 1, build["runner"], f"{path}.build.pipeline")
    name = "-".join([BUILD] * depth) or TREE
    made: dict[str, Any] = {"name": name, "stages": [_stage(stage) for stage in description.get("stages", [])]}
    if inner is not None:
        made["build"] = f"{PIPELINE_PREFIX}{inner}"
    if runner is not None:
        made["runner"] = runner
    loader.add(made, path)
    return name


def _stage(description: Mapping[str, Any]) -> dict[str, Any]:
    options = description.get("options", {})
    stage = {"type": description["name"], "options": options}
    if stage["type"] == "org.osbuild.rpm":
        references = dict(_package(package) for package in options.get("packages", []))
        stage["inputs"] = {"packages": _input("org.osbuild.files", references)}
    elif stage["type"] == "org.osbuild.ostree" and "commit" in options:
        reference = {"ref": options["ref"]} if options.get("ref") else {}
        stage["inputs"] = {"commits": _input("org.osbuild.ostree", {options["commit"]: reference})}
    return stage


def _input(type_: str, references: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": type_, "origin": ORIGIN_SOURCE, "references": references}


def _package(package: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(package, str):
        return package, {}
    checked = package.get("check_gpg")
    return package["checksum"], {"metadata": {"rpm.check_gpg": checked}} if checked else {}
