"""What holds a sandbox besides its namespaces and capabilities: control groups and a filter of system calls."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kiln.linux.cgroups import Group

REFUSED: Final = "sandbox: a control group does not take it"
"""What is printed when a group cannot be entered."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """*groups* are directories of control groups that the sandbox is put into before it runs anything.

    *seccomp* is a filter as seccomp(2) takes it, an array of `struct sock_filter`; empty for none. *group* is the group
    that the directories are of, where it was made for this sandbox.
    """

    groups: tuple[Path, ...] = ()
    seccomp: bytes = b""
    group: Group | None = None

    def entering(self, argv: Sequence[str]) -> list[str]:
        """Return the command that enters the groups and then becomes *argv*.

        A cgroup namespace that *argv* makes begins there, so that nothing inside can see or leave what limits it.
        """
        if not self.groups:
            return list(argv)
        return ["/bin/sh", "-c", _ENTER, "sh", str(len(self.groups)), *map(str, self.groups), *argv]

    def enter(self, pid: int) -> None:
        """Put a process, and with it what it will start, into the groups. Raises OSError."""
        for group in self.groups:
            (group / "cgroup.procs").write_text(f"{pid}\n", encoding="ascii")

    def filter_file(self) -> int:
        """Return a new descriptor of a file in memory that holds the filter. Raises OSError."""
        descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
        os.write(descriptor, self.seccomp)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor


_ENTER: Final = (
    f'n=$1; shift; while [ "$n" -gt 0 ]; do echo 0 > "$1/cgroup.procs" || {{ echo "{REFUSED}: $1"; exit 126; }}; '
    'n=$((n - 1)); shift; done; exec "$@"'
)
UNCONFINED: Final = Confinement()
