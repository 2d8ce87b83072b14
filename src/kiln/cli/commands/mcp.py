"""kiln mcp: Kiln for agents."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer


def mcp(
    http: Annotated[
        int | None, typer.Option(metavar="PORT", help="Serve HTTP on the loopback instead of standard streams.", min=0)
    ] = None,
) -> None:
    """Serve the Model Context Protocol: search, propose, validate, explain, preview, build if confirmed, status."""
    from kiln.cli.failure import guarded

    raise typer.Exit(guarded(False, _mcp, http))


def _mcp(port: int | None) -> int:
    import secrets

    from kiln import __version__
    from kiln.authoring.catalog.data import load_catalog
    from kiln.cli.context import settings
    from kiln.control_plane.mcp.protocol import Conversation
    from kiln.control_plane.mcp.service import Service
    from kiln.control_plane.mcp.transport import LOOPBACK, PATH, http_server, serve_streams
    from kiln.control_plane.road.run import IMAGES
    from kiln.errors import ExitStatus

    service = Service(load_catalog(), settings(), os.environ, Path(IMAGES).absolute())
    conversation = Conversation(service.tools(), __version__)
    if port is None:
        serve_streams(conversation, sys.stdin.buffer, sys.stdout.buffer)
        return int(ExitStatus.OK)
    token = secrets.token_urlsafe(32)
    with http_server(conversation, token, port) as server:
        sys.stderr.write(f"http://{LOOPBACK}:{server.server_address[1]}{PATH}\nauthorization: Bearer {token}\n")
        sys.stderr.flush()
        server.serve_forever()
    return int(ExitStatus.OK)
