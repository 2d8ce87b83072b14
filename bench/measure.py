"""Running commands and counting what they cost."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """What a command took: seconds of wall time, and of CPU in the whole process tree."""

    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Row:
    """One comparison; *ratio* is ours / theirs, smaller is better, None where there is nothing to compare with."""

    name: str
    ours: float
    theirs: float | None
    ratio: float | None
    unit: str
    command: str

    def document(self) -> dict[str, object]:
        return asdict(self)


def compare(name: str, ours: float, theirs: float | None, unit: str, command: str) -> Row:
    ratio = None if theirs is None else round(ours / theirs, 4)
    return Row(name, round(ours, 4), None if theirs is None else round(theirs, 4), ratio, unit, command)


def cost(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Cost:
    """Run a command to its end and return its cost. Raises subprocess.CalledProcessError."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    subprocess.run(argv, cwd=cwd, env=dict(env), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
