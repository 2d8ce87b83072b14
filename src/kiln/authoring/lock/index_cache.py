"""Index files by the SHA-256 of their content, and the newest date seen of each index."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from kiln.authoring.lock.release import IndexedFile, IndexName, rfc3339
from kiln.linux.files import write_atomic, write_if_changed
from kiln_wire.digest import Digest


class IndexCache:
    """A directory that may be deleted at any time; what it holds is checked each time it is read."""

    def __init__(self, root: Path) -> None:
        self._pool = root / "sha256"
        self._dates = root / "dates"
        self._pool.mkdir(parents=True, exist_ok=True)

    def path(self, entry: IndexedFile) -> Path:
        """Return where that content lies or would lie."""
        return self._pool / entry.digest.hex

    def has(self, entry: IndexedFile) -> bool:
        """Whether it is there with the right size; one of another size is removed. Its bytes are not read."""
        try:
            if self.path(entry).stat().st_size == entry.size_bytes:
                return True
        except FileNotFoundError:
            return False
        self.drop(entry)
        return False

    def load(self, entry: IndexedFile) -> bytes | None:
        """Return the content if it is there and whole; a damaged file is removed."""
        if not self.has(entry):
            return None
        data = self.path(entry).read_bytes()
        if Digest.of(data) == entry.digest:
            return data
        self.drop(entry)
        return None

    def store(self, entry: IndexedFile, data: bytes) -> None:
        """Keep *data*, whose digest has been checked."""
        if not self.has(entry):
            write_atomic(self.path(entry), data)

    def drop(self, entry: IndexedFile) -> None:
        """Forget that content."""
        with suppress(FileNotFoundError):
            self.path(entry).unlink()

    def prune(self, before: datetime, *, dry_run: bool = False) -> dict[str, int]:
        """Remove content that nobody has read or written since *before*; returns the sizes in bytes by digest.

        The dates stay: they are what an old index is refused by. With *dry_run*, nothing is removed.
        """
        gone = {}
        for path in sorted(self._pool.iterdir()):
            status = path.stat()
            if max(status.st_atime, status.st_mtime) < before.timestamp():
                gone[path.name] = status.st_size
                if not dry_run:
                    path.unlink(missing_ok=True)
        return gone

    def seen(self, name: IndexName) -> datetime | None:
        """Return the newest date that an accepted index of that name had, None if there was none."""
        try:
            text = self._date_file(name).read_text("ascii")
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except (FileNotFoundError, ValueError):
            return None

    def remember(self, name: IndexName, date: datetime) -> None:
        """Keep *date* as the newest that was seen."""
        path = self._date_file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_if_changed(path, rfc3339(date).encode("ascii"))

    def _date_file(self, name: IndexName) -> Path:
        # quote() keeps dots, and a suite could be called `..`.
        mirror, suite = (quote(word, safe="").replace(".", "%2E") for word in (name.mirror, name.suite))
        return self._dates / mirror / suite
