"""Keeping a store below a size: what was not used for longest goes first, and never what something else stands on.

The size is remembered in `cache.info`, as osbuild does it. Nothing is evicted while another process uses the store; who
closes it last does it.
"""

from __future__ import annotations

import heapq
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kiln.engine.objects.layout import Layout
from kiln.engine.objects.session import throw_away
from kiln.errors import KilnError
from kiln.linux import files, locks

INFO: Final = "cache.info"
INFO_VERSION: Final = 1
UNLIMITED: Final = "unlimited"
SIZE: Final = "size"
BLOCK_BYTES: Final = 512
"""The unit of st_blocks."""


@dataclass(frozen=True, slots=True)
class _Stored:
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


def evict(layout: Layout, maximum: int) -> int:
    """Throw objects away until the rest has at most *maximum* bytes; returns how many went. Raises OSError.

    Does nothing while another process uses the store. The caller must not hold the store's lock itself.
    """
    try:
        with locks.exclusive(layout.root / "store.lock", blocking=False):
            return _evict(layout, maximum)
    except KilnError as error:
        if error.reason != "busy":
            raise
        return 0


def _evict(layout: Layout, maximum: int) -> int:
    stored = {entry.key: entry for entry in _stored(layout)}
    sizes = {key: _size(layout, key) for key in stored}
    total = sum(sizes.values())
    users = dict.fromkeys(stored, 0)
    for entry in stored.values():
        for layer in entry.layers[:-1]:
            if layer in users:
                users[layer] += 1
    free = [(entry.used, key) for key, entry in stored.items() if users[key] == 0]
    heapq.heapify(free)
    count = 0
    while total > maximum and free:
        _, key = heapq.heappop(free)
        throw_away(layout, layout.object(key))
        total -= sizes[key]
        count += 1
        for layer in stored[key].layers[:-1]:
            if layer in users:
                users[layer] -= 1
                if users[layer] == 0:
                    heapq.heappush(free, (stored[layer].used, layer))
    return count


def _stored(layout: Layout) -> list[_Stored]:
    found = []
    for path in layout.objects.iterdir():
        record = path / "object.json"
        try:
            layers = tuple(json.loads(record.read_bytes())["layers"])
            found.append(_Stored(path.name, layers, record.stat().st_mtime))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _size(layout: Layout, key: str) -> int:
    """Return the bytes that an object takes on the disk, measured once."""
    remembered = layout.object(key) / SIZE
    with suppress(OSError, ValueError):
        return int(remembered.read_text(encoding="ascii"))
    size = _measure(layout.object(key))
    with suppress(OSError):
        remembered.write_text(str(size), encoding="ascii")
    return size


def _measure(directory: Path) -> int:
    total = 0
    todo = [str(directory)]
    while todo:
        with os.scandir(todo.pop()) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_blocks * BLOCK_BYTES
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
    return total
