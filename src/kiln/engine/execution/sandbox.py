"""The sandbox of one stage, as osbuild lays it out: mounts, devices, environment, capabilities."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kiln.engine.execution.buildroot import Skeleton, system_mounts, write_etc
from kiln.linux import capabilities, mounts, userns
from kiln.linux.sandbox import Mount, Sandbox

DEFAULT_CAPABILITIES: Final = frozenset(
    {
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_IPC_LOCK",
        "CAP_LINUX_IMMUTABLE",
        "CAP_MAC_OVERRIDE",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_ADMIN",
        "CAP_SYS_CHROOT",
        "CAP_SYS_NICE",
        "CAP_SYS_RESOURCE",
    }
)
DEVICES: Final[Mapping[str, tuple[int, int]]] = {
    "full": (1, 7),
    "null": (1, 3),
    "random": (1, 8),
    "tty": (5, 0),
    "urandom": (1, 9),
    "zero": (1, 5),
}
FUSE: Final = (10, 229)
DEVICE_MODE: Final = stat.S_IFCHR | 0o666
DESCRIPTOR_LINKS: Final = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
KERNEL_SETTINGS: Final = ("/proc/sys", "/proc/sysrq-trigger", "/proc/fs")
"""bubblewrap would cover them itself, but does not see that they can be written."""
RUN: Final = "/run/osbuild"


@dataclass(frozen=True, slots=True)
class Scratch:
    """A small file system of one stage, in memory: it is gone when the stage has ended, whatever happens."""

    root: Path

    @property
    def dev(self) -> Path:
        """/dev of the stage, where device services make their nodes."""
        return self.root / "dev"

    @property
    def mounts(self) -> Path:
        """Where mount services mount."""
        return self.root / "mounts"

    @property
    def api(self) -> Path:
        """The sockets and the arguments."""
        return self.root / "api"

    @property
    def sys(self) -> Path:
        """/sys of the host without what is mounted below it."""
        return self.root / "sys"

    def make(self, skeleton: Skeleton) -> None:
        """Fill it with all but the arguments. Raises OSError."""
        for name in ("api", "dev", "etc", "mounts", "inputs", "sys"):
            (self.root / name).mkdir()
        # Alone: what is mounted below it, above all the control groups of the whole host, is not for stages to open.
        # In a user namespace the kernel shows it only whole; there nothing of it can be written.
        mounts.bind_on("/sys", self.sys, recursive=userns.is_inside())
        write_etc(skeleton, self.root / "etc")
        (self.root / "meta").touch()
        (self.root / "cmdline").write_text("root=/dev/osbuild\n", encoding="ascii")
        fill_dev(self.dev)

    def write_arguments(self, arguments: Mapping[str, Any]) -> None:
        """Put what the stage is to do where it looks for it. Raises OSError."""
        (self.api / "arguments").write_text(json.dumps(arguments), encoding="utf-8")


def fill_dev(directory: Path) -> None:
    """Make the device nodes that every stage has; bind the host's where nodes cannot be made. Raises OSError."""
    devices = dict(DEVICES)
    if Path("/dev/fuse").exists():
        devices["fuse"] = FUSE
    for name, (major, minor) in devices.items():
        path = directory / name
        try:
            os.mknod(path, DEVICE_MODE, os.makedev(major, minor))
            path.chmod(0o666)
        except PermissionError:
            path.touch()
            mounts.bind_on(f"/dev/{name}", path)
    for name, target in DESCRIPTOR_LINKS.items():
        (directory / name).symlink_to(target)


def stage_sandbox(
    *,
    root: Path,
    skeleton: Skeleton,
    scratch: Scratch,
    libdir: Path,
    runtime: Path,
    tree: Path,
    var: Path,
    program: Path,
    inputs: list[Mount],
    runner: Path | None,
    extra_capabilities: frozenset[str],
    source_epoch: int | None,
) -> Sandbox:
    """Return the sandbox in which *program* changes *tree*; *root* is the build root's directory.

    *runtime* holds the package `osbuild` that the programs of *libdir* import.
    """
    own = scratch.root
    planned = [
        *system_mounts(root, skeleton, own / "etc"),
        Mount("dev", "/dev", str(own / "dev")),
        Mount("tmpfs", "/dev/shm"),  # noqa: S108 - inside the sandbox
        Mount("tmpfs", "/run"),
        Mount("tmpfs", "/tmp"),  # noqa: S108 - inside the sandbox
        Mount("rw", "/var", str(var)),
        Mount("proc", "/proc"),
        # Root can write to the kernel's settings without any capability; core_pattern names a program for the host.
        *(Mount("ro", path, path) for path in KERNEL_SETTINGS if Path(path).exists()),
        Mount("ro", "/sys", str(scratch.sys)),
        *([Mount("ro", "/sys/fs/selinux", "/sys/fs/selinux")] if Path("/sys/fs/selinux").is_dir() else []),
        *library(libdir, runtime),
        Mount("ro", "/proc/cmdline", str(own / "cmdline")),
        Mount("rw", f"{RUN}/tree", str(tree)),
        Mount("rw", f"{RUN}/meta", str(own / "meta")),
        Mount("rw", f"{RUN}/mounts", str(own / "mounts")),
        Mount("ro", f"{RUN}/bin/{program.name}", str(program)),
        Mount("dir", f"{RUN}/inputs"),
        *inputs,
        Mount("ro", f"{RUN}/api", str(own / "api")),
        *([] if runner is None else [Mount("ro", f"{RUN}/runner/{runner.name}", str(runner))]),
    ]
    environment = {
        "container": "bwrap-osbuild",
        "LC_CTYPE": "C.UTF-8",
        "PATH": "/usr/sbin:/usr/bin",
        "PYTHONPATH": f"{RUN}/lib",
        "PYTHONUNBUFFERED": "1",
        "TERM": os.environ.get("TERM", "dumb"),
    }
    if source_epoch is not None:
        environment["SOURCE_DATE_EPOCH"] = str(source_epoch)
    return Sandbox(tuple(planned), stage_capabilities(extra_capabilities), environment)


def stage_capabilities(extra: frozenset[str]) -> frozenset[str]:
    """Return what a stage may do: as osbuild has it, with what its module asks for, as far as this process may."""
    return (DEFAULT_CAPABILITIES | extra) & capabilities.permitted()


def library(libdir: Path, runtime: Path) -> list[Mount]:
    """Return the mounts that show the libdir and its runtime to a stage."""
    if runtime == libdir:
        return [Mount("ro", f"{RUN}/lib", str(libdir))]
    if not (libdir / "osbuild").is_dir():
        return [Mount("ro", f"{RUN}/lib", str(runtime))]  # there is nothing to mount the package on
    return [
        Mount("ro", f"{RUN}/lib", str(libdir)),
        Mount("ro", f"{RUN}/lib/osbuild", str(runtime / "osbuild")),
    ]


def arguments(
    *,
    stage_id: str,
    options: Mapping[str, Any],
    inputs: Mapping[str, Any],
    devices: Mapping[str, Any],
    mounted: Mapping[str, Any],
    source_epoch: int | None,
) -> dict[str, Any]:
    """Return what `osbuild.api.arguments()` gives the stage."""
    meta: dict[str, Any] = {"id": stage_id}
    if source_epoch is not None:
        meta["source-epoch"] = source_epoch
    return {
        "tree": f"{RUN}/tree",
        "paths": {"devices": "/dev", "inputs": f"{RUN}/inputs", "mounts": f"{RUN}/mounts"},
        "devices": dict(devices),
        "inputs": dict(inputs),
        "mounts": dict(mounted),
        "options": dict(options),
        "meta": meta,
    }
