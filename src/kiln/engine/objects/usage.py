"""What takes how much space in a store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kiln.engine.objects.eviction import read_maximum, stored_objects
from kiln.engine.objects.layout import Layout
from kiln.engine.objects.sizes import disk_usage, object_size


@dataclass(frozen=True, slots=True)
class Usage:
    """*kind* is what it is, *count* how many there are, *bytes* what they take on the disk."""

    kind: str
    count: int
    bytes: int


def usage(root: Path) -> tuple[Usage, ...]:
    """Return what the store at *root* holds, by kind. Raises OSError."""
    layout = Layout(root)
    stored = stored_objects(layout)
    sources = [path for path in layout.files.parent.rglob("*") if path.is_file()] if layout.files.is_dir() else []
    return (
        Usage("objects", len(stored), sum(object_size(layout, entry.key) for entry in stored)),
        Usage("sources", len(sources), sum(map(disk_usage, sources))),
        *(
            Usage(kind, _count(path), disk_usage(path))
            for kind, path in (
                ("working", layout.working),
                ("trash", layout.trash),
                ("quarantine", layout.quarantine),
                ("validated", layout.validated),
            )
        ),
    )


def maximum(root: Path) -> int | None:
    """Return the size in bytes that the objects of a store shall not exceed, None for no limit."""
    return read_maximum(root)


def _count(directory: Path) -> int:
    return sum(1 for _ in directory.iterdir()) if directory.is_dir() else 0
