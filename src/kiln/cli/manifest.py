"""kiln build for a manifest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kiln.errors import ExitStatus

if TYPE_CHECKING:
    from kiln.control_plane.road.manifest import BuiltManifest


def build_and_tell(
    file: str,
    data: bytes,
    output: Path | None,
    update_lock: bool,
    fix: bool,
    remote: Sequence[str],
    as_json: bool,
    progress: Any,
    verbose: bool,
) -> int:
    """Build a manifest and print what came out. Raises KilnError."""
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines
    from kiln.cli.sinks import Warnings, make_sink
    from kiln.control_plane.road.manifest import ManifestOrder, build_manifest

    sink = Warnings(make_sink(progress, verbose=verbose))
    order = ManifestOrder(Path(file), data, output, fix, update_lock)
    built = build_manifest(order, settings(remote), sink, environment=os.environ)
    if as_json:
        print_json(manifest_document(built))
    else:
        print_lines([*manifest_lines(built), *(f"warning: {text}" for text in sink.texts)])
    return int(ExitStatus.OK)


def manifest_document(built: BuiltManifest) -> dict[str, Any]:
    """Return the result as JSON."""
    return {
        "kind": "kiln.manifest-build/v1",
        "name": built.name,
        "directory": str(built.directory),
        "locked": str(built.locked),
        "fixed": None if built.fixed is None else str(built.fixed),
        "findings": [finding.to_document() for finding in built.findings],
        "artifacts": [
            {
                "name": item.name,
                "digest": None if item.digest is None else str(item.digest),
                "sizeBytes": item.size_bytes,
            }
            for item in built.artifacts
        ],
        "stages": {"run": built.stages.ran, "fromStore": built.stages.cached},
        "steps": [
            {"step": step.step, "seconds": round(step.seconds, 3), "cached": step.cached, "summary": step.summary}
            for step in built.steps
        ],
    }


def manifest_lines(built: BuiltManifest) -> list[str]:
    """Return the result for people."""
    from kiln.cli.output import table
    from kiln.cli.words import duration, size

    lines = ["", f"{built.name} is built in {built.directory}.", ""]
    rows = [[f"  {item.name}", size(item.size_bytes), str(item.digest or "directory")] for item in built.artifacts]
    rows.append(["  locked form", "", str(built.locked)])
    if built.fixed is not None:
        rows.append(["  with changes", "", str(built.fixed)])
    lines += [*table(rows), ""]
    steps = [
        [f"  {step.step}", "cached" if step.cached else duration(step.seconds), step.summary] for step in built.steps
    ]
    return [*lines, *table(steps), ""]
