"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kiln.cli.sinks import ProgressMode

AsJson = Annotated[bool, typer.Option("--json", help="Print only JSON on standard output.")]
ProgressOption = Annotated[
    ProgressMode, typer.Option("--progress", help="How to show progress, on standard error.", show_default=True)
]
PlainHttp = Annotated[
    bool, typer.Option("--plain-http", help="Speak HTTP without TLS with a registry that is not on this machine.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show what stages and tests print.")]
RequestArgument = Annotated[
    str,
    typer.Argument(metavar="REQUEST", help="A sentence, or a recipe file (.json, .yaml, .toml).", show_default=False),
]
ImageArgument = Annotated[
    Path, typer.Argument(metavar="IMAGE", help="An image directory, or an image file in one.", show_default=False)
]
