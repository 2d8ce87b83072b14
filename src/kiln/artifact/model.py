"""An artifact: final bytes by digest, as an OCI descriptor would name them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from kiln_wire.digest import Digest

QCOW2: Final = "application/vnd.kiln.image.qcow2"
SQUASHFS: Final = "application/vnd.kiln.image.squashfs"

Role = Literal["disk", "root"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file that a build put out. *role*: `disk` boots, `root` is the root file system alone."""

    name: str
    """Name of the file, without directories."""
    media_type: str
    digest: Digest
    size_bytes: int
    role: Role
