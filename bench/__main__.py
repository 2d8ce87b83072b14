"""Measure, print the table, and put it into bench/results/latest.json.

Usage: python -m bench [group ...], without one: all groups. OSBUILD_UPSTREAM names osbuild's source to compare with.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from bench import debian, documents, engine, road, scan, trust
from bench.measure import Row
from bench.places import scratch
from bench.results import merge, show

GROUPS: Final[dict[str, Callable[[Path], Iterable[Row]]]] = {
    "describe": documents.describe,
    "lock": documents.lock,
    "trust": lambda directory: [*trust.rows(directory), *scan.rows()],
    "wire": documents.wire,
    "engine": engine.rows,
    "debian": debian.rows,
    "road": road.rows,
}


def main() -> None:
    wanted = sys.argv[1:] or list(GROUPS)
    unknown = [name for name in wanted if name not in GROUPS]
    if unknown:
        sys.exit(f"no such group: {', '.join(unknown)}; there are {', '.join(GROUPS)}")
    for name in wanted:
        with scratch() as directory:
            for row in GROUPS[name](directory):
                show(row)
                merge(row)


if __name__ == "__main__":
    main()
