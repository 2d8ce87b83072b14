"""The forms in which an image can be put out, and what can start its kernel."""

from __future__ import annotations

from typing import Final

from kiln.authoring.recipe.model import BootLoader

ALWAYS: Final = ("qcow2", "squashfs")
"""The disk that is tested and the root that is verified; every image has them."""
FURTHER: Final = (
    "azure",
    "ec2",
    "erofs",
    "gcp",
    "iso",
    "lxc",
    "oci",
    "openstack",
    "ostree",
    "ova",
    "pxe",
    "qcow2.zst",
    "raw",
    "raw.gz",
    "raw.xz",
    "raw.zst",
    "tar",
    "tar.gz",
    "tar.xz",
    "tar.zst",
    "uki",
    "vagrant",
    "vdi",
    "verity",
    "vhd",
    "vhdx",
    "vmdk",
    "wsl",
)
OUTPUT_NAMES: Final = tuple(sorted((*ALWAYS, *FURTHER)))
OUTPUT_SYNONYMS: Final = {"tarball": "tar.gz"}
"""Words of sentences that are no names of outputs."""
BOOT_LOADERS: Final[tuple[BootLoader, ...]] = ("grub", "systemd-boot", "uki")
