"""Leaving the note by which kiln.engine.rerun answers the same command next time."""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from kiln.engine import rerun
from kiln.engine.execution.keys import OS_RELEASE, Keys
from kiln.engine.execution.libdir import runtime_directory
from kiln.engine.graph.needed import reachable
from kiln.engine.manifest.formats import normalise
from kiln.engine.manifest.model import Plan
from kiln.engine.manifest.modules import Modules
from kiln.engine.manifest.validate import modules_of
from kiln.engine.objects.layout import Layout
from kiln.engine.objects.model import ObjectRef
from kiln.linux import files

MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024
MAX_NOTES: Final = 64
"""Each has a whole manifest in it."""
OWN_PACKAGES: Final = ("kiln", "kiln_wire")


def remember(
    argv: Sequence[str],
    *,
    layout: Layout,
    manifest_name: str,
    manifest: bytes,
    document: Mapping[str, Any],
    libdir: Path,
    modules: Modules,
    plan: Plan,
    exports: Mapping[str, ObjectRef],
    output_directory: Path | None,
    output: str,
) -> None:
    """Write the note for a command line that has been carried out. Never fails: without a note, it runs again."""
    store = rerun.store_of(argv)
    if len(manifest) > MAX_MANIFEST_BYTES or store != str(layout.root) or not exports or output_directory is None:
        return
    targets = [pipeline for name in exports if (pipeline := plan.pipeline(name)) is not None]
    keys = Keys(plan, modules)
    used = [
        str(layout.object(keys.key(pipeline, index)) / "object.json")
        for pipeline in reachable(plan, targets)
        for index in range(len(pipeline.stages))
    ]
    note = {
        "question": rerun.question(argv, store),
        "manifest name": manifest_name,
        "manifest": manifest,
        "files": [(path, rerun.signature(path)) for path in dict.fromkeys(_deciding(document, modules, layout))],
        "objects": [path for path in used if Path(path).exists()],
        "exports": [
            (
                tuple(str(layout.layer(layer)) for layer in reversed(ref.layers)),
                str(output_directory / name),
                rerun.exported(str(output_directory / name)),
            )
            for name, ref in exports.items()
            if ref.layers
        ],
        "libdir": (str(libdir), os.path.realpath(libdir)),
        "output": output,
    }
    if len(note["exports"]) != len(exports):
        return
    with suppress(OSError):
        path = Path(rerun.note_path(store, argv))
        path.parent.mkdir(exist_ok=True)
        files.write_atomic(path, marshal.dumps(note))
        by_age = sorted(path.parent.iterdir(), key=lambda other: other.stat().st_mtime_ns)
        for other in by_age[:-MAX_NOTES]:
            other.unlink(missing_ok=True)


def _deciding(document: Mapping[str, Any], modules: Modules, layout: Layout) -> Iterator[str]:
    """Yield the files, and the directories whose entries, decide what a manifest means and which keys it has."""
    yield str(layout.root / "cache.info")
    yield from map(str, OS_RELEASE)
    libdir = modules.libdir
    for version in ("1", "2"):
        yield str(libdir / f"schemas/osbuild{version}.json")
    yield from (str(libdir), str(libdir / "osbuild"), str(libdir / "runners"))
    for thing in modules_of(normalise(document)):
        for path in modules.description_files(thing.kind, thing.name):
            yield from (str(path), os.path.realpath(path))
    runtime = runtime_directory(libdir) / "osbuild"
    for top, _, names in os.walk(runtime):
        if not top.endswith("__pycache__"):
            yield top
            yield from (f"{top}/{name}" for name in names)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in OWN_PACKAGES and getattr(module, "__file__", None):
            yield str(module.__file__)
