"""kiln build: from a request to a tested, signed image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiln.cli.options import AsJson, ProgressOption, RequestArgument, Verbose

if TYPE_CHECKING:
    from kiln.control_plane.road.model import Built


def build(
    request: RequestArgument,
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", help="Further form of the image (repeatable), or the image directory."),
    ] = None,
    update_lock: Annotated[
        bool, typer.Option("--update-lock", help="Take the newest packages instead of those of the kept lock.")
    ] = False,
    fix: Annotated[
        bool, typer.Option("--fix", help="Make the proposed changes to a manifest with mistakes, and build it.")
    ] = False,
    firmware: Annotated[str, typer.Option(help="Firmware to test with: bios or uefi.")] = "bios",
    remote: Annotated[
        list[str] | None,
        typer.Option(metavar="[PATTERN=]ssh://HOST", help="Run stages on another host, too (docs/remote.md)."),
    ] = None,
    as_json: AsJson = False,
    progress: ProgressOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Build, boot, test and sign an image from a sentence or a recipe; or build what a manifest describes."""
    from kiln.cli.failure import guarded

    raise typer.Exit(
        guarded(as_json, _build, request, output, update_lock, fix, firmware, remote or [], as_json, progress, verbose)
    )


def _build(
    request: str,
    output: list[str] | None,
    update_lock: bool,
    fix: bool,
    firmware: str,
    remote: list[str],
    as_json: bool,
    progress: Any,
    verbose: bool,
) -> int:
    from kiln.authoring.catalog.data import load_catalog
    from kiln.cli.ask import settle_questions
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines
    from kiln.cli.request import manifest_data, read_request, split_outputs
    from kiln.cli.sinks import Warnings, make_sink
    from kiln.control_plane.road.model import Order, firmware_named
    from kiln.control_plane.road.run import build_image
    from kiln.errors import ExitStatus

    directory, outputs = split_outputs(output or [])
    manifest = manifest_data(request)
    if manifest is not None:
        from kiln.cli.manifest import build_and_tell

        return build_and_tell(request, manifest, directory, update_lock, fix, remote, as_json, progress, verbose)
    asked = read_request(request)
    if not as_json:
        asked = settle_questions(asked, settings(), load_catalog())
    order = Order(asked, directory, update_lock, firmware_named(firmware), outputs)
    sink = Warnings(make_sink(progress, verbose=verbose))
    built = build_image(order, settings(remote), sink, environment=os.environ)
    if as_json:
        print_json(summary_document(built))
    else:
        print_lines([*summary_lines(built), *(f"warning: {text}" for text in sink.texts)])
    return int(ExitStatus.OK)


def summary_document(built: Built) -> dict[str, Any]:
    """Return the result of a run as JSON."""
    return {
        "kind": "kiln.build/v1",
        "name": built.name,
        "directory": str(built.directory),
        "artifacts": [
            {"name": item.name, "role": item.role, "digest": str(item.digest), "sizeBytes": item.size_bytes}
            for item in built.artifacts
        ],
        "packages": built.package_count,
        "downloadBytes": built.download_bytes,
        "lockDigest": built.lock_digest,
        "treeId": built.tree_id,
        "verificationId": built.verification_id,
        "recordId": built.record_id,
        "test": {
            "verdict": built.report.verdict,
            "checks": len(built.report.checks),
            "bootSeconds": round(built.report.boot_seconds, 3),
        },
        "stages": {"run": built.stages.ran, "fromStore": built.stages.cached, "remote": built.stages.remote},
        "steps": [
            {"step": step.step, "seconds": round(step.seconds, 3), "cached": step.cached, "summary": step.summary}
            for step in built.steps
        ],
    }


def summary_lines(built: Built) -> list[str]:
    """Return the result of a run for people."""
    from kiln.cli.output import table
    from kiln.cli.words import duration, size

    lines = ["", f"{built.name} is built, tested and signed.", ""]
    rows = [[f"  {item.role}", size(item.size_bytes), f"{item.name}  {item.digest}"] for item in built.artifacts]
    rows.append(["  packages", str(built.package_count), f"locked as {built.lock_digest}"])
    passed = sum(check.verdict == "pass" for check in built.report.checks)
    rows.append(
        ["  tests", f"{passed} of {len(built.report.checks)}", f"booted with {built.report.machine.accelerator}"]
    )
    rows.append(["  record", built.record_id[:12], f"verification {built.verification_id}"])
    lines += [*table(rows), ""]
    lines += table(
        [[f"  {step.step}", "cached" if step.cached else duration(step.seconds), step.summary] for step in built.steps]
    )
    total = sum(step.seconds for step in built.steps)
    where = _relative(built.directory)
    lines += [
        f"  {'total':<8}  {duration(total)}",
        "",
        "Next:",
        f"  kiln run {where}       boot it here",
        f"  kiln verify {where}    check every byte and signature, offline",
        f"  kiln sbom {where}      what is inside",
    ]
    return lines


def _relative(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
