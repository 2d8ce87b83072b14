"""A libdir of the repository's runtime and a stage that does what its options say; real stores, real sandboxes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from kiln.engine.execution.engine import Engine
from kiln.engine.execution.sources import NoFetcher, SourceFetcher
from kiln.engine.objects.store import ObjectStore
from kiln.events.model import CollectingSink

REPOSITORY = Path(__file__).parents[2]

SCRIPT_STAGE = """#!/usr/bin/python3
import os, sys
import osbuild.api
args = osbuild.api.arguments()
exec(args["options"]["script"], {"args": args, "tree": args["tree"], "os": os, "sys": sys, "api": osbuild.api})
"""
SCRIPT_META = {
    "summary": "Run a piece of Python",
    "description": ["For tests."],
    "schema_2": {
        "options": {"type": "object", "required": ["script"], "properties": {"script": {"type": "string"}}},
        "inputs": {"type": "object"},
    },
}


def add_stage(libdir: Path, name: str, program: str, meta: Mapping[str, Any]) -> Path:
    """Put a stage into a libdir."""
    path = libdir / "stages" / name
    path.write_text(program, encoding="utf-8")
    path.chmod(0o755)
    path.with_name(f"{name}.meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return path


def add_service(libdir: Path, folder: str, name: str, program: str) -> Path:
    """Put a service into a libdir; it takes every option."""
    path = libdir / folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/usr/bin/python3\n" + program, encoding="utf-8")
    path.chmod(0o755)
    meta = {"summary": "x", "description": [], "schema_2": {"type": "object"}}
    path.with_name(f"{name}.meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return path


@pytest.fixture
def libdir(tmp_path: Path) -> Path:
    """The repository's runtime, schemas and noop stage, and `org.kiln.test.script`."""
    result = tmp_path / "libdir"
    shutil.copytree(REPOSITORY / "libdir/osbuild", result / "osbuild", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "libdir/schemas", result / "schemas")
    shutil.copytree(REPOSITORY / "libdir/runners", result / "runners", symlinks=True)
    (result / "stages").mkdir()
    for name in ("org.osbuild.noop", "org.osbuild.noop.meta.json"):
        shutil.copy(REPOSITORY / "libdir/stages" / name, result / "stages" / name)
    add_stage(result, "org.kiln.test.script", SCRIPT_STAGE, SCRIPT_META)
    for kind in ("inputs", "sources", "devices", "mounts", "assemblers"):
        shutil.copytree(REPOSITORY / "libdir" / kind, result / kind)
    return result


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """An open store."""
    with ObjectStore(tmp_path / "store", background=False) as opened:
        yield opened


@pytest.fixture
def sink() -> CollectingSink:
    """Everything that was said."""
    return CollectingSink()


@pytest.fixture
def make_engine(store: ObjectStore, libdir: Path, sink: CollectingSink) -> Callable[..., Engine]:
    """Return engines on the same store and libdir."""

    def make(fetcher: SourceFetcher | None = None, **settings: Any) -> Engine:
        return Engine(store, libdir, fetcher or NoFetcher(), sink, **settings)

    return make


@pytest.fixture
def read(store: ObjectStore) -> Callable[..., str]:
    """Read a file of a stored tree."""

    def read_file(ref: Any, path: str) -> str:
        with store.mounted(ref) as tree:
            return (tree / path).read_text(encoding="utf-8", errors="surrogateescape")

    return read_file


@pytest.fixture
def manifest() -> Callable[..., dict[str, Any]]:
    """Return manifests of pipelines whose stages are scripts."""

    def make(
        sources: Mapping[str, Any] | None = None, **pipelines: Sequence[str] | Mapping[str, Any]
    ) -> dict[str, Any]:
        result = []
        for name, value in pipelines.items():
            description: dict[str, Any] = {"name": name}
            scripts = value
            if isinstance(value, Mapping):
                description.update({key: item for key, item in value.items() if key != "scripts"})
                scripts = value.get("scripts", [])
            description.setdefault(
                "stages", [{"type": "org.kiln.test.script", "options": {"script": script}} for script in scripts]
            )
            result.append(description)
        return {"version": "2", "pipelines": result, **({"sources": dict(sources)} if sources else {})}

    return make
