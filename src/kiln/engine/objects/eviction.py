"""Keeping a store below a size: what was not used for longest goes first, and never what something else stands on.

The size is remembered in `cache.info`, as osbuild does it. Objects that a living process uses stay, with their layers;
so the size holds inside a run as far as that run does not need more itself, and afterwards in any case.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kiln.engine.objects.layout import Layout
from kiln.engine.objects.pins import pinned
from kiln.engine.objects.session import clear_dead_sessions, throw_away
from kiln.engine.objects.sizes import known_size, object_size
from kiln.linux import faults, files

INFO: Final = "cache.info"
INFO_VERSION: Final = 1
UNLIMITED: Final = "unlimited"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as eviction sees it; *used* is when, in seconds of the epoch."""

    key: str
    layers: tuple[str, ...]
    used: float


def read_maximum(root: Path) -> int | None:
    """Return the largest size of the store at *root* in bytes, or None where there is no limit."""
    try:
        info = json.loads((root / INFO).read_bytes())
        maximum = info["maximum-size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return maximum if isinstance(maximum, int) and not isinstance(maximum, bool) else None


def write_maximum(root: Path, maximum: int | None) -> None:
    """Remember the largest size, None for no limit. Raises OSError."""
    info = {"version": INFO_VERSION, "maximum-size": UNLIMITED if maximum is None else maximum}
    files.write_atomic(root / INFO, json.dumps(info).encode("ascii"))


def touch(layout: Layout, key: str) -> None:
    """Remember that an object was used now."""
    with suppress(FileNotFoundError):
        os.utime(layout.object(key) / "object.json")


def evict(layout: Layout, maximum: int, *, dry_run: bool = False) -> dict[str, int]:
    """Throw objects away until the rest has at most *maximum* bytes; returns the sizes of those that went.

    With *dry_run* nothing goes. Raises OSError.
    """
    clear_dead_sessions(layout)
    if sum(object_size(layout, entry.key) for entry in stored_objects(layout)) <= maximum:
        return {}
    with pinned(layout) as pins:
        stored = {entry.key: entry for entry in stored_objects(layout)}
        # What was committed since the measuring counts the next time.
        sizes = {key: known_size(layout, key) or 0 for key in stored}
        going = choose(stored, sizes, pins, maximum)
        if not dry_run:
            for key in going:
                faults.point("evict:chosen")
                throw_away(layout, layout.object(key))
                faults.point("evict:renamed")
        return {key: sizes[key] for key in going}


def choose(
    stored: Mapping[str, Stored], sizes: Mapping[str, int], pins: frozenset[str], maximum: int
) -> tuple[str, ...]:
    """Return the keys that must go, in this order, so that at most *maximum* bytes stay, if *pins* allow that."""
    total = sum(sizes.values())
    users = dict.fromkeys(stored, 0)
    for entry in stored.values():
        for layer in entry.layers[:-1]:
            if layer in users:
                users[layer] += 1
    for key in pins & stored.keys():
        users[key] += 1  # its layers have a user anyway: itself
    free = [(entry.used, key) for key, entry in stored.items() if users[key] == 0]
    heapq.heapify(free)
    going = []
    while total > maximum and free:
        _, key = heapq.heappop(free)
        going.append(key)
        total -= sizes[key]
        for layer in stored[key].layers[:-1]:
            if layer in users:
                users[layer] -= 1
                if users[layer] == 0:
                    heapq.heappush(free, (stored[layer].used, layer))
    return tuple(going)


def stored_objects(layout: Layout) -> list[Stored]:
    """Return the objects whose record can be read."""
    found = []
    for path in layout.objects.iterdir():
        record = path / "object.json"
        try:
            layers = tuple(json.loads(record.read_bytes())["layers"])
            found.append(Stored(path.name, layers, record.stat().st_mtime))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found
