"""bench/results/latest.json: rows that a run does not measure stay as they are."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

from bench.measure import Row

LATEST: Final = Path(__file__).parent / "results" / "latest.json"


def merge(row: Row, path: Path = LATEST) -> None:
    """Write a row in the place of that of the same name, the others as they are."""
    known: dict[str, Any] = {}
    if path.exists():
        known = {entry["name"]: entry for entry in json.loads(path.read_text(encoding="utf-8"))}
    known[row.name] = row.document()
    path.parent.mkdir(exist_ok=True)
    text = json.dumps([known[name] for name in sorted(known)], indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def show(row: Row) -> None:
    """Print a row, with its command below it."""
    theirs = "nothing to compare with" if row.theirs is None else f"against {row.theirs:.6g}, ratio {row.ratio}"
    sys.stdout.write(f"{row.name:<36} {row.ours:.6g} {row.unit}: {theirs}\n    {row.command}\n")
    sys.stdout.flush()
