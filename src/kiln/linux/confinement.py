"""What holds a sandbox besides its namespaces and capabilities: control groups and a filter of system calls."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Confinement:
    """*groups* are directories of control groups that the sandbox's first process is put into before it runs anything.

    *seccomp* is a filter as seccomp(2) takes it, an array of `struct sock_filter`; empty for none.
    """

    groups: tuple[Path, ...] = ()
    seccomp: bytes = b""

    def enter(self, pid: int) -> None:
        """Put a process, and with it what it will start, into the groups. Raises OSError."""
        for group in self.groups:
            (group / "cgroup.procs").write_text(f"{pid}\n", encoding="ascii")


UNCONFINED: Final = Confinement()
