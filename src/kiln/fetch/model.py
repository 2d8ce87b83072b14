"""What is to be fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kiln_wire.digest import Digest


@dataclass(frozen=True, slots=True)
class Download:
    """One file: where it is below a mirror's root, what its bytes must be, where it goes.

    For a plain URL, *mirror* is empty and *url_path* is the whole URL.
    """

    url_path: str
    mirror: str
    digest: Digest
    size_bytes: int | None
    destination: Path
