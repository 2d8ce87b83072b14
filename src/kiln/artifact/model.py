"""An artifact: final bytes by digest, as an OCI descriptor would name them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from kiln_wire.digest import Digest

QCOW2: Final = "application/vnd.kiln.image.qcow2"
SQUASHFS: Final = "application/vnd.kiln.image.squashfs"

Role = Literal["disk", "root", "further"]


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file that a build put out.

    *role*: `disk` boots, `root` is the root file system alone, `further` is another form.
    """

    name: str
    """Name of the file, without directories."""
    media_type: str
    digest: Digest
    size_bytes: int
    role: Role


@dataclass(frozen=True, slots=True)
class Exported:
    """A file or a directory that a plan put out; a directory has no digest of its own."""

    name: str
    digest: Digest | None
    size_bytes: int

    @classmethod
    def of(cls, path: Path) -> Exported:
        """Describe what is at *path*; a directory has the size of its regular files together."""
        if path.is_dir() and not path.is_symlink():
            files = [item for item in path.rglob("*") if item.is_file() and not item.is_symlink()]
            return cls(path.name, None, sum(item.stat().st_size for item in files))
        return cls(path.name, Digest.of_file(path), path.stat().st_size)
