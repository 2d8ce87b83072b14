"""A bubblewrap sandbox as a value: what is mounted where, who it is, what it may; and its command line.

The description is pure; `argv` plans the same arguments for the same description, which tests compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class Mount:
    """One thing in the sandbox's file system.

    *kind*: `ro` and `rw` bind a host path (without device nodes), `dev` binds with them, `tmpfs`, `proc` and `dir` make
    something new (*source* is then empty), `symlink` makes a link whose text is *source*.
    """

    kind: Literal["ro", "rw", "dev", "tmpfs", "proc", "dir", "symlink"]
    target: str
    source: str = ""

    def describe(self) -> list[str]:
        """Return the arguments of bubblewrap for this mount."""
        match self.kind:
            case "ro":
                return ["--ro-bind", self.source, self.target]
            case "rw":
                return ["--bind", self.source, self.target]
            case "dev":
                return ["--dev-bind", self.source, self.target]
            case "symlink":
                return ["--symlink", self.source, self.target]
            case _:
                return [f"--{self.kind}", self.target]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """Processes in new IPC, PID, network and cgroup namespaces that see *mounts*, in this order, and nothing else.

    Without *own_groups* they stay in the caller's cgroup namespace. *capabilities* must be ones that the caller holds
    (see kiln.linux.capabilities).
    """

    mounts: tuple[Mount, ...]
    capabilities: frozenset[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    own_groups: bool = True

    def argv(self, command: Sequence[str], *, bwrap: Path) -> list[str]:
        """Return the whole command line that runs *command* inside."""
        arguments = [
            str(bwrap),
            "--chdir",
            self.directory,
            "--die-with-parent",
            "--new-session",
            "--unshare-ipc",
            "--unshare-pid",
            "--unshare-net",
            *(["--unshare-cgroup-try"] if self.own_groups else []),
            "--cap-drop",
            "ALL",
        ]
        for name in sorted(self.capabilities):
            arguments += ["--cap-add", name]
        for mount in self.mounts:
            arguments += mount.describe()
        return [*arguments, "--", *command]
