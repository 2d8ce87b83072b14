"""Where advisories come from: folders, checkouts, and files of a mirror with a logical name."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kiln.events.model import Progress, Sink
from kiln.vulnerabilities.database import DatabaseInfo, replace_sources
from kiln.vulnerabilities.model import Advisory, AdvisorySource
from kiln.vulnerabilities.reading import read_advisories

if TYPE_CHECKING:
    from kiln.fetch.client import Fetcher

STEP: Final = "advisories"
MAX_DOWNLOAD_BYTES: Final = 4 * 1024**3
_PER_EVENT: Final = 1000


def update(
    database: Path,
    sources: Sequence[AdvisorySource],
    open_fetcher: Callable[[], AbstractContextManager[Fetcher]],
    sink: Sink,
) -> DatabaseInfo:
    """Read every source and put its advisories in the place of its earlier ones; all or none.

    Raises KilnError(FETCH, ...) and (VULNERABILITY, ...).
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="advisories-", dir=database.parent) as temporary:
        incoming = []
        for number, source in enumerate(sources):
            path = source.folder
            if path is None:
                # The name keeps its suffix: it says how the file is packed.
                path = Path(temporary) / f"{number}-{source.path.rpartition('/')[2]}"
                with open_fetcher() as fetcher:
                    fetcher.download_latest(STEP, source.mirror, source.path, path, max_bytes=MAX_DOWNLOAD_BYTES)
            incoming.append((source.name, source.origin, revision(path), _counted(path, source.name, sink)))
        return replace_sources(database, incoming)


def _counted(path: Path, name: str, sink: Sink) -> Iterator[Advisory]:
    count = 0
    for count, advisory in enumerate(read_advisories(path), start=1):
        if count % _PER_EVENT == 0:
            sink.emit(Progress(STEP, count, None, "advisories", name))
        yield advisory
    sink.emit(Progress(STEP, count, count, "advisories", name))


def revision(path: Path) -> str:
    """Return the commit of a git checkout, or an empty text. Reads files only: no hook and no filter of it runs."""
    head = path / ".git/HEAD"
    if not path.is_dir() or not head.is_file():
        return ""
    text = head.read_text("utf-8", "replace").strip()
    if not text.startswith("ref: "):
        return text[:64]
    name = text.removeprefix("ref: ")
    loose = path / ".git" / name
    if ".." not in name.split("/") and loose.is_file():
        return loose.read_text("utf-8", "replace").strip()[:64]
    packed = path / ".git/packed-refs"
    lines = packed.read_text("utf-8", "replace").splitlines() if packed.is_file() else []
    return next((line.split(" ")[0][:64] for line in lines if line.endswith(f" {name}")), "")
