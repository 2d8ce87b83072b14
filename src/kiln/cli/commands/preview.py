"""kiln preview: what a build will give and cost."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kiln.cli.options import AsJson, ProgressOption, RequestArgument

if TYPE_CHECKING:
    from kiln.control_plane.preview import Preview


def preview(request: RequestArgument, as_json: AsJson = False, progress: ProgressOption = "quiet") -> None:
    """Say what building a request will give and cost, without building: packages, sizes, ports, services, minutes."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(as_json, _preview, request, as_json, progress))


def _preview(request: str, as_json: bool, progress: ProgressOption) -> int:
    from kiln.authoring.catalog.data import load_catalog
    from kiln.cli.context import settings
    from kiln.cli.output import print_json, print_lines
    from kiln.cli.request import read_request
    from kiln.cli.sinks import make_sink
    from kiln.control_plane.preview import KIND
    from kiln.control_plane.preview import preview as look
    from kiln.control_plane.road.author import resolve_all, understand
    from kiln.control_plane.road.run import IMAGES
    from kiln.errors import ExitStatus
    from kiln_wire.codec import encode

    catalog = load_catalog()
    resolution = resolve_all(understand(read_request(request), settings(), catalog), catalog)
    found = look(resolution, settings(), make_sink(progress), datetime.now(UTC), Path(IMAGES) / resolution.name)
    if as_json:
        print_json({"kind": KIND, **encode(found)})
    else:
        print_lines(preview_lines(found))
    return int(ExitStatus.OK)


def preview_lines(found: Preview) -> list[str]:
    """Return the preview for people."""
    from kiln.cli.output import table
    from kiln.cli.words import size

    rows = [
        ["packages", f"{found.expected.packages}, {found.cached_packages} of them here already"],
        ["download", size(found.expected.download_bytes)],
        ["installed", f"{size(found.expected.installed_bytes)}, about {size(found.squashfs_bytes)} as squashfs"],
        ["disk", size(found.disk_bytes)],
        ["ports", ", ".join(found.ports) or "none"],
        ["users", ", ".join(found.users) or "none"],
        ["services", ", ".join(found.services)],
        ["time", f"about {found.minutes:g} minutes"],
    ]
    if found.actual is not None:
        actual = found.actual
        rows.append(
            ["last build", f"{actual.packages} packages, {size(actual.download_bytes)}, {size(actual.installed_bytes)}"]
        )
    return [f"{found.name} on {found.base}", *("  " + line for line in table(rows))]
