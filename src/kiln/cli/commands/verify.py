"""kiln verify: check an image offline, every byte and every signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiln.cli.options import AsJson, ImageArgument, ProgressOption

if TYPE_CHECKING:
    from kiln_wire.finding import VerificationResult


def verify(
    image: ImageArgument,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="Public key to trust, beside this machine's own. Repeatable.")
    ] = None,
    as_json: AsJson = False,
    progress: ProgressOption = "auto",
) -> None:
    """Check an image offline; exit status 4 and the names of the files if anything was changed."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _verify, image, key or [], as_json, progress))


def _verify(image: Path, keys: list[Path], as_json: bool, progress: Any) -> int:
    from kiln.attestation.trust import read_public_key, trusted_keys
    from kiln.attestation.verify import verify_image
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines
    from kiln.cli.sinks import make_sink
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    trusted = [*trusted_keys(settings().keys), *(read_public_key(path) for path in keys)]
    result = verify_image(image, trusted_keys=trusted, sink=make_sink(progress))
    if as_json:
        print_json({"kind": "kiln.verification-result/v1", "verdict": result.verdict, **encode(result)})
    else:
        print_lines(result_lines(image, result))
    return int(ExitStatus.OK if result.verdict == "verified" else ExitStatus.REFUSED)


def result_lines(image: Path, result: VerificationResult) -> list[str]:
    """Return the outcome of each step, and every finding below its step."""
    from kiln.cli.words import size

    lines = []
    for step in result.steps:
        lines.append(f"{step.number:>3}. {step.title:<42} {step.outcome}")
        for item in result.findings:
            if item.step == step.name:
                lines.append(f"       {item.severity}: {item.component}: {item.reason}")
                if item.expected or item.got:
                    lines.append(f"         expected {item.expected}, got {item.got}")
    lines += ["", f"{result.files} files, {size(result.bytes_hashed)} read", f"{image}: {result.verdict}"]
    if result.verdict != "verified" and result.integrity:
        lines.append("nothing was changed since it was signed, but the signer is not trusted here: give --key")
    return lines
