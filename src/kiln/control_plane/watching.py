"""Looking at other machines' logs, and being a witness of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import HTTPServer
from pathlib import Path
from typing import Final

import httpx

from kiln.control_plane.settings import Settings
from kiln.control_plane.trust import key_ring
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.records.witness import Witness
from kiln.records.witness_http import serve
from kiln_wire.note import NoteError, NoteKey
from kiln_wire.tiles import MAX_TILE_BYTES, Read

WITNESS_ROLE: Final = "witness"
TIMEOUT_SECONDS: Final = 30.0


@contextmanager
def log_reader(source: str) -> Iterator[Read]:
    """Return how to read a log by URL or directory. Reading raises KilnError(RECORD, "unusable-log")."""
    if not source.startswith(("http://", "https://")):
        yield lambda path: _file(Path(source) / path)
        return
    with httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True) as client:

        def read(path: str) -> bytes:
            try:
                answer = client.get(f"{source.rstrip('/')}/{path}").raise_for_status()
            except httpx.HTTPError as error:
                raise _unusable(f"{path} can't be fetched: {error}") from error
            if len(answer.content) > MAX_TILE_BYTES:
                raise _unusable(f"{path} has {len(answer.content)} bytes")
            return answer.content

        yield read


def log_key_of(text: str) -> NoteKey:
    """Return a verifier key. Raises KilnError(SETTINGS, "bad-option")."""
    try:
        return NoteKey.parse(text)
    except NoteError as error:
        raise KilnError(
            Domain.SETTINGS,
            "bad-option",
            str(error),
            hint="`kiln log status` prints the key of a log",
            exit_status=ExitStatus.USAGE,
        ) from error


def open_witness(
    settings: Settings,
    environment: Mapping[str, str],
    name: str,
    keys: Sequence[str],
    listen: str,
    clock: Callable[[], int],
) -> tuple[HTTPServer, NoteKey]:
    """Return a witness's server at *listen* (`address:port`) and its key. Raises KilnError(SETTINGS, "bad-option")."""
    host, _, port = listen.rpartition(":")
    try:
        signer = key_ring(settings, environment).signer(WITNESS_ROLE)
        witness = Witness(name, signer, settings.state / WITNESS_ROLE, [log_key_of(text) for text in keys])
        return serve(witness, (host, int(port)), clock), witness.key
    except (NoteError, OSError, ValueError, OverflowError) as error:
        raise KilnError(
            Domain.SETTINGS,
            "bad-option",
            f"no witness {name[:80]!r} at {listen}: {error}",
            hint="give a name without spaces and a free address such as 127.0.0.1:8080",
            exit_status=ExitStatus.USAGE,
        ) from error


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(f"{path} can't be read: {error.strerror}") from error


def _unusable(problem: str) -> KilnError:
    return KilnError(
        Domain.RECORD,
        "unusable-log",
        problem,
        hint="is it the URL or directory of a log (with `checkpoint` in it)?",
        exit_status=ExitStatus.REFUSED,
    )
