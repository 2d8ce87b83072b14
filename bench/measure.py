"""Running commands and counting what they cost."""

from __future__ import annotations

import ctypes
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

PR_SET_CHILD_SUBREAPER: Final = 36


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
    ratio = round(ours / theirs, 4) if theirs else None
    return Row(name, round(ours, 6), None if theirs is None else round(theirs, 6), ratio, unit, command)


def cost(argv: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> Cost:
    """Run a command, and all that it leaves running, to the end; return the cost. Raises CalledProcessError.

    A sandbox's first process outlives the program that made the sandbox. It becomes a child of this process, which
    waits for it: only what somebody has waited for is counted.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    log = cwd / "bench.log"
    with log.open("wb") as file:
        done = subprocess.run(argv, cwd=cwd, env=dict(env), check=False, stdout=file, stderr=subprocess.STDOUT)
    wall = time.monotonic() - started
    if done.returncode != 0:
        sys.stderr.write(log.read_text(errors="replace")[-2000:])
        raise subprocess.CalledProcessError(done.returncode, list(argv))
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def best(run: Callable[[int], Cost], times: int) -> Cost:
    """Return the smallest wall time and the smallest CPU time of some runs; *run* is told its number."""
    costs = [run(number) for number in range(times)]
    return Cost(min(one.wall_seconds for one in costs), min(one.cpu_seconds for one in costs))


def median_cpu(work: Callable[[], object], times: int) -> float:
    """Return the median of this process's CPU seconds for *work*."""
    taken = []
    for _ in range(times):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return statistics.median(taken)
