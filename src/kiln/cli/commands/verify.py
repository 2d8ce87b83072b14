"""kiln verify: check offline what an image is, every byte and every signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kiln.cli.options import AsJson, PlainHttp, ProgressOption

if TYPE_CHECKING:
    from kiln_wire.finding import VerificationResult


def verify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="An image directory, an OCI layout, a reference, a pack, or a signed file or directory.",
            show_default=False,
        ),
    ],
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="Public key to trust, beside this machine's own. Repeatable.")
    ] = None,
    root: Annotated[str, typer.Option(help="Trust root: a file, or the name of an imported one.")] = "",
    policy: Annotated[Path | None, typer.Option(help="What must hold, as YAML or JSON.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle of a single file, if it is not beside it.")] = None,
    plain_http: PlainHttp = False,
    as_json: AsJson = False,
    progress: ProgressOption = "auto",
) -> None:
    """Check an image offline; exit status 4 and the names of the files if anything was changed."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _verify, target, key or [], root, policy, bundle, plain_http, as_json, progress))


def _verify(
    target: str,
    keys: list[Path],
    root: str,
    policy: Path | None,
    bundle: Path | None,
    plain_http: bool,
    as_json: bool,
    progress: Any,
) -> int:
    from kiln.attestation.policy import read_policy
    from kiln.attestation.targets import verify_target
    from kiln.cli.context import now, settings
    from kiln.cli.output import print_json, print_lines
    from kiln.cli.sinks import make_sink
    from kiln.control_plane.trust import verification_trust
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    trust = verification_trust(settings(), now(), keys=keys, root=root)
    rules = None if policy is None else read_policy(policy)
    result = verify_target(target, trust, policy=rules, bundle=bundle, plain_http=plain_http, sink=make_sink(progress))
    if as_json:
        print_json({"kind": "kiln.verification-result/v1", "verdict": result.verdict, **encode(result)})
    else:
        print_lines(outcome_lines(target, result))
    return int(ExitStatus.OK if result.verdict == "verified" else ExitStatus.REFUSED)


def outcome_lines(target: str, result: VerificationResult) -> list[str]:
    """Return the steps with their findings, what was read, and the verdict."""
    from kiln.cli.words import size
    from kiln_wire.render import result_lines

    lines = result_lines(result)
    lines += ["", f"{result.files} files, {size(result.bytes_hashed)} read", f"{target}: {result.verdict}"]
    if result.verdict != "verified" and result.integrity:
        lines.append("nothing was changed since it was signed, but the signer is not trusted here: give --key")
    return lines
