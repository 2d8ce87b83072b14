"""Running commands and counting what they cost."""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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

    CPU is what a control group of its own has counted. Times of children count only what somebody has waited for, and
    nobody waits in a sandbox that is killed: with them, a stage was three times as cheap as it is.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    log = cwd / "bench.log"
    with _group() as group, log.open("wb") as file:
        started = time.monotonic()
        done = subprocess.run(
            ["sh", "-c", 'echo 0 > "$0" && exec "$@"', str(group / "cgroup.procs"), *argv],
            cwd=cwd,
            env=dict(env),
            check=False,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        wall = time.monotonic() - started
        if done.returncode != 0:
            sys.stderr.write(log.read_text(errors="replace")[-2000:])
            raise subprocess.CalledProcessError(done.returncode, list(argv))
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        return Cost(wall, _used_seconds(group))


@contextmanager
def _group() -> Iterator[Path]:
    """Make a control group that counts CPU: of version 1, or of version 2, which counts without a controller."""
    for mount in ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
        if not any(Path(mount, name).exists() for name in ("cpuacct.usage", "cgroup.subtree_control")):
            continue
        group = Path(mount, f"kiln-bench-{os.getpid()}")
        group.mkdir()
        try:
            yield group
        finally:
            for inner in sorted(group.rglob("*"), reverse=True):
                if inner.is_dir():
                    inner.rmdir()
            group.rmdir()
        return
    sys.exit("there are no control groups here to count CPU with")


def _used_seconds(group: Path) -> float:
    usage = group / "cpuacct.usage"
    if usage.exists():
        return int(usage.read_text()) / 1e9
    fields = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(fields["usage_usec"]) / 1e6


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
