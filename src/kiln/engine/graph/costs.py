"""What a stage holds of this machine while it runs, in tokens.

`cpu` is a processor. `memory` is a GiB that a program is known to take beside what every stage takes; two that compress
with large windows at the same time would push a small machine into swap. `network` is held by the fetching of sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CPU: Final = "cpu"
MEMORY: Final = "memory"
NETWORK: Final = "network"
GIB: Final = 1024**3

ORDINARY: Final[Mapping[str, int]] = {CPU: 1}
FETCHING: Final[Mapping[str, int]] = {NETWORK: 1}
MEMORY_GIB: Final[Mapping[str, int]] = {
    "org.osbuild.dracut": 1,
    "org.osbuild.erofs": 1,
    "org.osbuild.oci-archive": 1,
    "org.osbuild.qemu": 1,
    "org.osbuild.squashfs": 2,
    "org.osbuild.xorrisofs": 1,
    "org.osbuild.xz": 2,
    "org.osbuild.zstd": 1,
}
"""Rounded up, as seen with the largest dictionaries that the stage's options allow in common use."""


def tokens(stage_type: str) -> Mapping[str, int]:
    """Return what a stage of this type holds."""
    memory = MEMORY_GIB.get(stage_type)
    return ORDINARY if memory is None else {CPU: 1, MEMORY: memory}


def capacity(jobs: int, memory_bytes: int) -> Mapping[str, int]:
    """Return what a machine has: *jobs* stages at the same time, and its memory without a GiB for everything else."""
    return {CPU: jobs, MEMORY: max(1, memory_bytes // GIB - 1), NETWORK: 1}
