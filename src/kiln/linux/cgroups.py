"""Control groups, versions 1 and 2: limits for the processes of one sandbox, and what devices they may open.

A group is two directories deep in each hierarchy that is used: limits and rules are set on the outer one, processes
are in the inner one. Inside a cgroup namespace the inner one is all that a process can see and change.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from kiln.linux import device_policy
from kiln.linux.cgroup_hierarchies import CONTROLLERS, Hierarchies
from kiln.linux.device_policy import Rule

PREFIX: Final = "kiln-"
INNER: Final = "stage"
CPU_PERIOD_US: Final = 100_000
REMOVE_SECONDS: Final = 5.0
"""How long a group whose processes have all ended may still be busy."""
STALE_SECONDS: Final = 60.0

Exceeded = Literal["memory", "pids"]


@dataclass(frozen=True, slots=True)
class Limits:
    """None is no limit. *cpus* is a number of processors; *io_bytes_per_second* holds for reading and writing each.

    io is limited on *disk*, the device number (as of stat) of a file system.
    """

    memory_bytes: int | None = None
    pids: int | None = None
    cpus: float | None = None
    io_bytes_per_second: int | None = None
    disk: int = 0

    def controllers(self) -> frozenset[str]:
        """Return what is needed to hold them."""
        values = (self.memory_bytes, self.pids, self.cpus, self.io_bytes_per_second)
        return frozenset(name for name, value in zip(CONTROLLERS, values, strict=True) if value is not None)


_numbers: Final = itertools.count()


@dataclass(slots=True)
class Group:
    """A group that exists; *devices* says what refuses them. Close it when its processes have ended."""

    outer: Mapping[str, Path]
    devices: Literal["program", "controller", "none"]
    rules: list[Rule] = field(default_factory=list)

    @property
    def directories(self) -> tuple[Path, ...]:
        """Where a process writes its number to be in the group."""
        return tuple(dict.fromkeys(path / INNER for path in self.outer.values()))

    def allow(self, rules: tuple[Rule, ...]) -> None:
        """Let the processes open more devices. Raises OSError."""
        self.rules += rules
        if self.devices == "program":
            device_policy.attach(self.rules, self.outer["unified"])
        elif self.devices == "controller":
            for directory in (self.outer["devices"], self.outer["devices"] / INNER):
                for rule in rules:
                    if directory.is_dir():
                        (directory / "devices.allow").write_text(str(rule), encoding="ascii")

    def exceeded(self) -> Exceeded | None:
        """Return which limit a process has run into, if any."""
        for name, files in (("memory", ("memory.events", "memory.oom_control")), ("pids", ("pids.events",))):
            directory = self.outer.get(name)
            if directory is not None and any(
                _count(path / file, "oom_kill" if name == "memory" else "max") > 0
                for path in (directory, directory / INNER)
                for file in files
            ):
                return "memory" if name == "memory" else "pids"
        return None

    def close(self) -> None:
        """Remove the group; what cannot be removed now is removed by a later build. Safe to call again."""
        deadline = time.monotonic() + REMOVE_SECONDS
        for path in dict.fromkeys(self.outer.values()):
            for directory in (path / INNER, path):
                while not _removed(directory) and time.monotonic() < deadline:
                    time.sleep(0.01)
        self.outer = {}


def make(hierarchies: Hierarchies, limits: Limits, rules: tuple[Rule, ...]) -> Group:
    """Make a group with these limits, whose processes can open the devices that *rules* allow, where that can be had.

    Raises OSError; a limit whose controller is not available is the caller's to refuse.
    """
    name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
    outer: dict[str, Path] = {}
    group = Group(outer, "none")
    try:
        for controller in limits.controllers():
            base = hierarchies.controllers.get(controller)
            if controller in hierarchies.unified_controllers and hierarchies.unified is not None:
                base = hierarchies.unified
            if base is not None:
                outer[controller] = _make(base / name)
                _limit(controller, limits, outer[controller], unified=base == hierarchies.unified)
        _hold_devices(group, hierarchies, name, outer, rules)
        for path in dict.fromkeys(outer.values()):
            # Below everything that was set, which the inner group then has from its beginning.
            (path / INNER).mkdir(exist_ok=True)
    except BaseException:
        group.close()
        raise
    return group


def clean(hierarchies: Hierarchies, now: float) -> int:
    """Remove empty groups that dead processes left; *now* in seconds of the epoch. Returns how many there were."""
    count = 0
    for base in {*hierarchies.controllers.values(), *([hierarchies.unified] if hierarchies.unified else [])}:
        for path in base.glob(f"{PREFIX}*"):
            owner = path.name.removeprefix(PREFIX).partition("-")[0]
            with suppress(OSError):
                if not Path(f"/proc/{owner}").exists() and now - path.stat().st_mtime > STALE_SECONDS:
                    _removed(path / INNER)
                    count += _removed(path)
    return count


def _hold_devices(
    group: Group, hierarchies: Hierarchies, name: str, outer: dict[str, Path], rules: tuple[Rule, ...]
) -> None:
    if hierarchies.unified is not None:
        outer["unified"] = _make(hierarchies.unified / name)
        group.devices = "program"
        with suppress(OSError):  # no such programs in this kernel, or not for this process
            group.allow(rules)
            return
        group.devices = "none"
        group.rules = []
    base = hierarchies.controllers.get("devices")
    if base is not None:
        outer["devices"] = _make(base / name)
        (outer["devices"] / "devices.deny").write_text("a", encoding="ascii")
        group.devices = "controller"
        group.allow(rules)


def _limit(controller: str, limits: Limits, directory: Path, *, unified: bool) -> None:
    major, minor = os.major(limits.disk), os.minor(limits.disk)
    speed = limits.io_bytes_per_second
    quota = int((limits.cpus or 0) * CPU_PERIOD_US)
    settings: Mapping[str, Mapping[str, object]]
    if unified:
        settings = {
            "memory": {"memory.max": limits.memory_bytes, "memory.swap.max": 0, "memory.oom.group": 1},
            "pids": {"pids.max": limits.pids},
            "cpu": {"cpu.max": f"{quota} {CPU_PERIOD_US}"},
            "io": {"io.max": f"{major}:{minor} rbps={speed} wbps={speed}"},
        }
    else:
        settings = {
            "memory": {
                "memory.limit_in_bytes": limits.memory_bytes,
                "memory.memsw.limit_in_bytes": limits.memory_bytes,
            },
            "pids": {"pids.max": limits.pids},
            "cpu": {"cpu.cfs_period_us": CPU_PERIOD_US, "cpu.cfs_quota_us": quota},
            "io": {f"blkio.throttle.{way}_bps_device": f"{major}:{minor} {speed}" for way in ("read", "write")},
        }
    for file, value in settings[controller].items():
        path = directory / file
        # Accounting of swap can be switched off when the kernel starts.
        if path.exists() or "sw" not in file:
            path.write_text(f"{value}\n", encoding="ascii")


def _make(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return directory


def _removed(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _count(path: Path, key: str) -> int:
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == key:
                return int(value)
    return 0
