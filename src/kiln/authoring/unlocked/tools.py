"""Which packages a build root needs for which stages, beside those that every build root has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

STAGE_PACKAGES: Final = {
    "org.kiln.iso": ("xorriso",),
    "org.kiln.uki": ("systemd-boot-efi",),
    "org.osbuild.erofs": ("erofs-utils",),
    "org.osbuild.mkfs.btrfs": ("btrfs-progs",),
    "org.osbuild.mkfs.xfs": ("xfsprogs",),
    "org.osbuild.ostree": ("ostree",),
    "org.osbuild.uki": ("systemd-boot-efi", "binutils"),
    "org.osbuild.xorrisofs": ("xorriso",),
}
"""Stage, or the beginning of the names of a family of stages, -> Debian packages."""


def tool_packages(stages: Iterable[str]) -> list[str]:
    """Return the further packages that stages of these types need, sorted."""
    found = {
        package
        for stage in stages
        for prefix, packages in STAGE_PACKAGES.items()
        if stage == prefix or stage.startswith(f"{prefix}.")
        for package in packages
    }
    return sorted(found)
