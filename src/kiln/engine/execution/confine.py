"""What holds every stage: a filter of system calls, its own devices and no others, and limits if asked for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from kiln.engine.execution.sandbox import stage_capabilities
from kiln.engine.execution.work import StageWork
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux import cgroups, device_policy
from kiln.linux.cgroup_hierarchies import Hierarchies, detect
from kiln.linux.cgroups import Limits
from kiln.linux.confinement import Confinement
from kiln.linux.seccomp import stage_filter

WORDS: Final = {"memory": "memory", "pids": "processes", "cpu": "processor time", "io": "disk traffic"}


class HostConfiner:
    """Confines stages as far as this host allows. Use it for one build."""

    def __init__(self, limits: Limits, hierarchies: Hierarchies | None = None) -> None:
        """Look at the host. Raises KilnError(HOST, "no-control-group") where a limit cannot be held."""
        self._limits = limits
        self._hierarchies = detect() if hierarchies is None else hierarchies
        missing = limits.controllers() - self._hierarchies.available()
        if missing:
            raise KilnError(
                Domain.HOST,
                "no-control-group",
                f"this host cannot limit {', '.join(sorted(WORDS[name] for name in missing))}: "
                f"no control group of this process has the controllers {', '.join(sorted(missing))}",
                hint="leave the limit out, or run as root where /sys/fs/cgroup can be written",
                exit_status=ExitStatus.INFRASTRUCTURE,
            )
        cgroups.clean(self._hierarchies, time.time())

    def confine(self, work: StageWork, dev: Path) -> Confinement:
        """Return what holds a stage. Raises OSError."""
        rules = (*device_policy.STANDARD, *device_policy.nodes(dev))
        group = cgroups.make(self._hierarchies, self._limits, tuple(dict.fromkeys(rules)))
        return Confinement(group.directories, stage_filter(stage_capabilities(work.module.capabilities)), group)

    def release(self, confinement: Confinement) -> None:
        """Remove the stage's control group."""
        if confinement.group is not None:
            confinement.group.close()
