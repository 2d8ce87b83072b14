"""A tree that is being made: writable until it is committed or discarded."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from kiln.engine.objects.copying import copy_attributes, copy_tree
from kiln.engine.objects.model import ObjectRef
from kiln.linux import mounts


@dataclass(slots=True)
class WorkingTree:
    """*tree* is where the stage writes, *var* a directory for its temporary files on the same disk.

    To be used, committed and discarded in the thread that began it: the mount may be that thread's own.
    """

    key: str
    base: ObjectRef
    directory: Path
    layered: bool
    tree: Path = field(init=False)
    mounted: ExitStack = field(init=False, default_factory=ExitStack)

    @property
    def object(self) -> Path:
        """What becomes the object's directory."""
        return self.directory / "object"

    @property
    def layer(self) -> Path:
        """What this stage changes."""
        return self.object / "layer"

    @property
    def work(self) -> Path:
        """The overlay's own directory."""
        return self.directory / "work"

    @property
    def var(self) -> Path:
        """/var of the stage's sandbox."""
        return self.directory / "var"

    def begin(self, lower: list[Path], base_root: Path | None) -> None:
        """Make the directories and mount the tree over *lower* (top first).

        *base_root* is the topmost layer of the base or, where trees are kept whole, the base tree. Raises OSError.
        """
        self.layer.mkdir(parents=True)
        self.layer.chmod(0o755)
        (self.var / "tmp").mkdir(parents=True)
        (self.var / "tmp").chmod(0o1777)
        if base_root is not None and not self.layered:
            copy_tree(base_root, self.layer)
        elif base_root is not None:
            # The root directory of an overlay has the owner, mode and times of its topmost layer.
            copy_attributes(base_root, self.layer, os.lstat(base_root))
        if not self.layered:
            self.tree = self.layer
            return
        self.tree = self.directory / "tree"
        self.tree.mkdir()
        self.work.mkdir()
        self.mounted.enter_context(mounts.overlay(lower, self.tree, upper=self.layer, work=self.work))
