"""kiln reproduce: build an image again from its lock, and compare."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiln.cli.options import AsJson, ImageArgument, ProgressOption, Verbose

if TYPE_CHECKING:
    from kiln.attestation.reproduction import Reproduction, Voice


def reproduce(
    image: ImageArgument,
    store: Annotated[
        Path | None, typer.Option("--store", help="Store to build with.", show_default="an empty one")
    ] = None,
    statement: Annotated[
        list[Path] | None, typer.Option("--statement", help="Statement of another rebuilder to count. Repeatable.")
    ] = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="Public key of a rebuilder to trust. Repeatable.")
    ] = None,
    tally: Annotated[bool, typer.Option("--tally", help="Build nothing; count the statements that are there.")] = False,
    as_json: AsJson = False,
    progress: ProgressOption = "auto",
    verbose: Verbose = False,
) -> None:
    """Build an image again and compare every output; exit status 1 if one is not identical."""
    from kiln.cli.failure import guarded

    others, keys = statement or [], key or []
    raise typer.Exit(guarded(as_json, _reproduce, image, store, others, keys, tally, as_json, progress, verbose))


def _reproduce(
    image: Path,
    store: Path | None,
    others: list[Path],
    keys: list[Path],
    only_tally: bool,
    as_json: bool,
    progress: Any,
    verbose: bool,
) -> int:
    from kiln.attestation.reproduction import reproduction_document
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines
    from kiln.cli.sinks import make_sink
    from kiln.control_plane.reproduce import keep, rebuilder_keys, reproduce, voices
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    found = settings()
    directory = (image if image.is_dir() else image.parent).absolute()
    rebuilt = None
    if not only_tally:
        sink = make_sink(progress, verbose=verbose)
        rebuilt = reproduce(
            directory, found, sink, store=store, environment=os.environ, clock=lambda: datetime.now(UTC)
        )
        keep(directory, rebuilt.statement)
    heard = voices(directory, rebuilder_keys(found, datetime.now(UTC), keys), others)
    if as_json:
        result = reproduction_document(rebuilt.found) if rebuilt is not None else None
        print_json({"kind": "kiln.rebuilds/v1", "reproduction": result, "rebuilders": encode(heard)})
    else:
        print_lines([*(reproduction_lines(rebuilt.found) if rebuilt is not None else []), *voice_lines(heard)])
    if rebuilt is not None:
        return int(ExitStatus.OK if rebuilt.found.verdict == "identical" else ExitStatus.FAILED)
    agreed = any(not voice.problem and voice.verdict == "identical" for voice in heard)
    return int(ExitStatus.OK if agreed else ExitStatus.FAILED)


def reproduction_lines(found: Reproduction) -> list[str]:
    """Return each output with whether it is identical, and each difference with its cause."""
    lines = [
        f"{'identical' if item.identical else 'DIFFERENT':<10} {item.name}  {item.expected}" for item in found.outputs
    ]
    for item in found.differences:
        first, *rest = item.detail.splitlines() or [""]
        lines.append(f"  {item.kind} ({item.cause}): {item.output}: {item.path}  {first}")
        lines += [f"    {line}" for line in rest]
    if not found.same_plan:
        lines.append("this Kiln makes another plan of the lock than the one that built the image")
    return [*lines, f"verdict: {found.verdict}", ""]


def voice_lines(heard: tuple[Voice, ...]) -> list[str]:
    """Return what each rebuilder said, and how many agree."""
    counted = [voice for voice in heard if not voice.problem]
    lines = [
        f"{voice.statement}: not counted: {voice.problem}"
        if voice.problem
        else f"{voice.rebuilder} (key {voice.key}): {voice.verdict}"
        for voice in heard
    ]
    same = sum(voice.verdict == "identical" for voice in counted)
    return [*lines, f"{same} of {len(counted)} rebuilders came to identical bytes"]
