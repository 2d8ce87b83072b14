"""Taking away what nobody can use: leftovers of dead processes, objects that no build can find, half-fetched files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kiln.engine.objects import eviction
from kiln.engine.objects.collect import collect
from kiln.engine.objects.layout import Layout
from kiln.engine.objects.partial import drop_partial
from kiln.engine.objects.pins import pinned
from kiln.engine.objects.reader import read_record
from kiln.engine.objects.session import clear_dead_sessions, throw_away
from kiln.engine.objects.sizes import disk_usage


@dataclass(slots=True)
class Tidied:
    """What went or would go, with bytes on the disk: *unusable* and *evicted* objects by key, *partial* files by name.

    *sessions* is how many processes had died with work in the store.
    """

    sessions: int = 0
    unusable: Mapping[str, int] = field(default_factory=dict)
    evicted: Mapping[str, int] = field(default_factory=dict)
    partial: Mapping[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Return the sum."""
        return sum(sum(part.values()) for part in (self.unusable, self.evicted, self.partial))


def tidy(root: Path, *, maximum: int | None = None, dry_run: bool = False) -> Tidied:
    """Take away what nobody can use, then what was not used for longest until objects take *maximum* bytes.

    Without *maximum*, the store's own limit holds. With *dry_run*, nothing goes. Raises OSError.
    """
    layout = Layout(root)
    done = Tidied()
    if not dry_run:
        done.sessions = clear_dead_sessions(layout)
    done.unusable = _drop_unusable(layout, dry_run=dry_run)
    done.partial = drop_partial(layout, dry_run=dry_run)
    limit = eviction.read_maximum(root) if maximum is None else maximum
    if limit is not None:
        done.evicted = eviction.evict(layout, limit, dry_run=dry_run)
    if not dry_run:
        collect(root)
    return done


def _drop_unusable(layout: Layout, *, dry_run: bool) -> dict[str, int]:
    """Drop objects whose record is another version's or cannot be read, and those that stand on a missing layer."""
    found = {}
    with pinned(layout) as pins:
        for path in layout.objects.iterdir():
            record = read_record(layout, path.name)
            whole = record is not None and all(layout.layer(layer).is_dir() for layer in record.layers)
            if not whole and path.name not in pins:
                found[path.name] = disk_usage(path)
                if not dry_run:
                    throw_away(layout, path)
    return found
