"""kiln pack and kiln copy: take an image elsewhere, with everything that proves what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kiln.cli.options import PlainHttp, ProgressOption


def pack(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="An image directory, or an OCI layout.", show_default=False)
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The pack.", show_default="<name>.kiln.pyz")
    ] = None,
    progress: ProgressOption = "auto",
) -> None:
    """Put an image with its statements and a verifier into one file, for air gaps and auditors."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _pack, image, output, progress))


def copy(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="An OCI layout or a reference.", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="An OCI layout or a reference.", show_default=False)],
    plain_http: PlainHttp = False,
    progress: ProgressOption = "auto",
) -> None:
    """Copy an OCI image with its signatures, between layouts and registries."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _copy, source, target, plain_http, progress))


def _pack(image: Path, output: Path | None, progress: Any) -> int:
    import os

    from kiln.attestation.pack import write_pack
    from kiln.cli.context import settings
    from kiln.cli.output import print_lines
    from kiln.cli.sinks import make_sink
    from kiln.cli.words import size
    from kiln.control_plane.trust import trust_store
    from kiln.errors import ExitStatus

    store = trust_store(settings(), os.environ)
    root = store.document() if store.exists else None
    target = output or Path(f"{image.absolute().name}.kiln.pyz")
    written = write_pack(image, target, make_sink(progress), root=root)
    print_lines([f"{written.path}: {written.files} files, {size(written.size_bytes)}, {written.digest}"])
    return int(ExitStatus.OK)


def _copy(source: str, target: str, plain_http: bool, progress: Any) -> int:
    from kiln.artifact.oci.copy import copy_image
    from kiln.artifact.oci.model import bad_reference
    from kiln.attestation.targets import oci_place
    from kiln.cli.output import print_lines
    from kiln.cli.sinks import make_sink
    from kiln.errors import ExitStatus

    origin, goal = oci_place(source), oci_place(target, create=True)
    if origin is None or goal is None:
        raise bad_reference(source if origin is None else target, "neither an OCI layout nor an image in a registry")
    with origin.open(plain_http=plain_http) as left, goal.open(create=True, plain_http=plain_http) as right:
        tag = goal.reference.tag if goal.reference is not None else goal.selector or "latest"
        copied = copy_image(left, origin.selector, right, tag, make_sink(progress))
    print_lines([f"copied {copied.digest}"])
    return int(ExitStatus.OK)
