"""Files that were being fetched or written by processes that have died."""

from __future__ import annotations

import re
from typing import Final

from kiln.engine.objects.layout import Layout
from kiln.engine.objects.sizes import disk_usage
from kiln.errors import KilnError
from kiln.linux import locks

_PARTIAL: Final = re.compile(r"\..+\.(part|tmp)")
"""Names that `kiln.fetch` and `kiln.linux.files` give to what is not complete yet."""


def drop_partial(layout: Layout, *, dry_run: bool = False) -> dict[str, int]:
    """Drop them; returns their sizes in bytes by name. Raises OSError.

    They cannot be told from those of living processes, so nothing happens while one uses the store.
    """
    found = {}
    try:
        with locks.exclusive(layout.root / "store.lock", blocking=False):
            for directory in (layout.root, layout.files, layout.validated):
                for path in directory.iterdir():
                    if _PARTIAL.fullmatch(path.name) and path.is_file():
                        found[path.name] = disk_usage(path)
                        if not dry_run:
                            path.unlink(missing_ok=True)
    except KilnError as error:
        if error.reason != "busy":
            raise
    return found
