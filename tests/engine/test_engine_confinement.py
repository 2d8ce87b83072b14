"""What holds a stage besides its namespaces: a filter of system calls, and control groups."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from kiln.engine.execution.bubblewrap import run_sandboxed
from kiln.linux.confinement import Confinement
from kiln.linux.sandbox import Mount, Sandbox

pytestmark = pytest.mark.root

SYSTEM = (
    Mount("ro", "/usr", "/usr"),
    *(Mount("symlink", f"/{name}", f"usr/{name}") for name in ("bin", "lib", "lib64", "sbin")),
    Mount("proc", "/proc"),
)
# BPF_RET | BPF_K with SECCOMP_RET_ALLOW: a filter that lets everything pass still shows that there is one.
ALLOW = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)


def show(path: str, confinement: Confinement, cancel: int) -> str:
    pieces: list[bytes] = []
    sandbox = Sandbox(SYSTEM, frozenset(), {"PATH": "/usr/bin"})
    ended = run_sandboxed(
        sandbox,
        ["cat", path],
        on_output=pieces.append,
        server=None,
        timeout_seconds=None,
        cancel=cancel,
        confinement=confinement,
    )
    assert ended.status == 0
    return b"".join(pieces).decode()


@pytest.fixture
def cancel():
    descriptor = os.eventfd(0)
    yield descriptor
    os.close(descriptor)


def test_a_filter_of_system_calls_holds(cancel):
    assert "Seccomp:\t0" in show("/proc/self/status", Confinement(), cancel)
    assert "Seccomp:\t2" in show("/proc/self/status", Confinement(seccomp=ALLOW), cancel)


def test_a_stage_is_in_its_control_group_from_the_start(cancel):
    for parent in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        group = parent / "kiln-test-confinement"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "cgroup.procs").exists():
            break
        group.rmdir()
    else:
        pytest.skip("no control group can be made on this host")
    try:
        # Its own group is the root of what it can see.
        lines = show("/proc/self/cgroup", Confinement(groups=(group,)), cancel).splitlines()
        assert all(line.endswith(":/") for line in lines)
    finally:
        group.rmdir()
