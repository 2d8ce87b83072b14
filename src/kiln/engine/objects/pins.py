"""What living processes use, so that nobody evicts it: an empty file `working/<session>/pins/<key>` for each object.

A pin is set before the object is looked up, and holds until its session ends. It protects the object with every layer
below it. Whoever evicts holds `pins.lock` alone from reading the pins to the last rename; whoever pins shares it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from kiln.engine.objects.layout import Layout
from kiln.linux import locks

PINS: Final = "pins"
LOCK: Final = "pins.lock"


def pin(layout: Layout, session: Path, key: str) -> None:
    """Say that the process of *session* uses the object of *key*, which need not exist yet. Raises OSError."""
    with locks.shared(layout.root / LOCK):
        path = session / PINS / key
        try:
            path.touch()
        except FileNotFoundError:
            path.parent.mkdir()
            path.touch()


@contextmanager
def pinned(layout: Layout) -> Iterator[frozenset[str]]:
    """Yield the keys that are in use, while nobody can begin to use another one. Raises OSError."""
    with locks.exclusive(layout.root / LOCK):
        keys: set[str] = set()
        for session in layout.working.iterdir():
            with suppress(FileNotFoundError, NotADirectoryError):
                keys.update(path.name for path in (session / PINS).iterdir())
        yield frozenset(keys)
