"""What the store says about an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

RECORD_VERSION: Final = 2
"""2: an object of one layer is the whole tree as it is, without marks of an overlay."""

Backend = Literal["overlay", "copy"]
"""How trees are kept: as layers over each other, or each one whole (where the kernel allows no overlay)."""


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A stored tree. *layers* are keys from the bottom to the top; an empty tree has none."""

    key: str
    layers: tuple[str, ...]


EMPTY: Final = ObjectRef("empty", ())
"""The tree of a pipeline without stages."""


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """`object.json`. *host* is the remote host that made the layer; empty for this machine."""

    version: int
    key: str
    base: str | None
    layers: tuple[str, ...]
    stage: str
    stage_id: str
    host: str = ""
