"""The object store: trees by private key, kept as layers, complete or invisible, shared by several processes.

`layout` describes the files. A build claims a key (which makes a second builder of it wait), looks it up, begins a
working tree over a base, and commits it: one rename, whatever the size of the tree.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

from kiln.engine.objects import eviction
from kiln.engine.objects.clamp import clamp_times
from kiln.engine.objects.copying import copy_tree
from kiln.engine.objects.hardlinks import keep_together
from kiln.engine.objects.keeper import SizeKeeper
from kiln.engine.objects.layout import Layout
from kiln.engine.objects.model import EMPTY, RECORD_VERSION, Backend, ObjectRecord, ObjectRef
from kiln.engine.objects.reader import StoreReader
from kiln.engine.objects.session import drop_unwritten, throw_away
from kiln.engine.objects.working import WorkingTree
from kiln.errors import Domain, KilnError, disk_full
from kiln.linux import faults, locks
from kiln_wire.codec import encode

MAX_LAYERS: Final = 64
"""A deeper stack is copied into one layer: each layer costs a look-up for each name, and the kernel takes 500."""
CLAIM_PAUSE_SECONDS: Final = 0.05


class ObjectStore(StoreReader):
    """An open store; close it, or use it as a context manager. Safe to use from several threads.

    With *background*, closing starts a process of low priority that deletes the trash; else `gc` does it when called.
    """

    def __init__(self, root: Path, *, backend: Backend | Literal["auto"] = "auto", background: bool = True) -> None:
        """Open the store at *root*, which is made if missing. Raises KilnError(STORE, ...)."""
        self.root = root.absolute()
        self._background = background
        self._held = ExitStack()
        layout = Layout(self.root)
        with self._full_disk():
            layout.make()
            self._held.enter_context(locks.shared(self.root / "store.lock"))
            drop_unwritten(layout)
            super().__init__(layout, backend)
        self._keeper = SizeKeeper(layout, self._collect)

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the use of the store by this process."""
        self._keeper.close()
        self._session.close()
        self._held.close()
        maximum = eviction.read_maximum(self.root)
        if maximum is not None:
            eviction.evict(self._layout, maximum)
        if any(self._layout.trash.iterdir()) or any(self._layout.pending.iterdir()):
            self._collect()

    def set_maximum(self, maximum: int | None) -> None:
        """Keep the store below *maximum* bytes from now on, in every process; None for no limit. Raises OSError."""
        eviction.write_maximum(self.root, maximum)

    def touch(self, key: str) -> None:
        """Say that an object was used, so that it is evicted later than others."""
        eviction.touch(self._layout, key)

    @contextmanager
    def claim(self, key: str, *, cancelled: Callable[[], bool] = lambda: False) -> Iterator[ObjectRef | None]:
        """Be the only builder of *key*; yields its object if somebody else has made it meanwhile.

        Raises KilnError(STORE, "busy") when *cancelled* becomes true while another builder is waited for.
        """
        path = self._layout.locks / key[:3]
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(locks.exclusive(path, blocking=False))
                    break
                except KilnError as error:
                    if error.reason != "busy" or cancelled():
                        raise
                time.sleep(CLAIM_PAUSE_SECONDS)
            yield self.lookup(key)

    def begin(self, key: str, base: ObjectRef = EMPTY) -> WorkingTree:
        """Return a writable tree that starts as *base*; to be ended with `commit` or `discard` in the same thread.

        Raises KilnError(STORE, "no-space"), OSError.
        """
        with self._full_disk():
            if len(base.layers) >= MAX_LAYERS:
                base = self._flatten(base)
            self._session.pin(key)
            # A first stage needs no overlay, whose inodes would all be torn down again when it is unmounted: 3 us each.
            layered = self.backend == "overlay" and bool(base.layers)
            working = WorkingTree(key, base, self._session.directory("tree-"), layered)
            try:
                working.begin(self._lower(base), self._layout.layer(base.layers[-1]) if base.layers else None)
            except BaseException:
                self.discard(working)
                raise
        return working

    def commit(
        self,
        working: WorkingTree,
        *,
        stage: str = "",
        stage_id: str = "",
        metadata: Mapping[str, Any] | None = None,
        source_epoch: int | None = None,
        host: str = "",
    ) -> ObjectRef:
        """Make the tree an object; an existing one wins. Takes the same time for every tree, but for the following.

        Unmounting the overlay of a later stage takes 3 us for each file that this stage has used. Nothing in the layer
        stays newer than *source_epoch* (seconds), which costs a look at each file that the stage changed.
        Raises KilnError(STORE, "no-space"), OSError.
        """
        key = working.key
        layers = (*working.base.layers, key) if working.layered else (key,)
        record = ObjectRecord(
            RECORD_VERSION, key, working.base.key if working.base.layers else None, layers, stage, stage_id, host
        )
        with self._full_disk():
            if working.layered:
                keep_together(working.tree, working.layer, working.work)
            faults.point("commit:tree-done")
            working.mounted.close()
            if source_epoch is not None:
                clamp_times(working.layer, source_epoch)
            faults.point("commit:unmounted")
            (working.object / "object.json").write_text(json.dumps(encode(record)), encoding="utf-8")
            if metadata:
                (working.object / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
            faults.point("commit:recorded")
            self._show(key, working.object)
        self._keeper.committed()
        self.discard(working)
        return ObjectRef(key, layers)

    def adopt(self, key: str, directory: Path) -> bool:
        """Make a directory on the store's disk, complete with record and layer, the object of *key*.

        Returns whether it was; an existing object wins. Raises OSError.
        """
        self._session.pin(key)
        shown = self._show(key, directory)
        self._keeper.committed()
        return shown

    def discard(self, working: WorkingTree) -> None:
        """End a working tree without a trace. Safe to call again."""
        working.mounted.close()
        throw_away(self._layout, working.directory)
        faults.point("discard:renamed")

    def keep(self, working: WorkingTree, destination: Path) -> None:
        """Copy a tree that failed to *destination*, to be looked at. Raises OSError."""
        copy_tree(working.tree, destination)

    def throw_away(self, path: Path) -> None:
        """Delete a directory of the store later."""
        throw_away(self._layout, path)

    def gc(self) -> int:
        """Have everything on disk and delete the trash now; returns the number of deleted entries. Raises OSError."""
        from kiln.engine.objects.collect import collect  # noqa: PLC0415

        return collect(self.root)

    def _show(self, key: str, directory: Path) -> bool:
        # Before the name, and in this order on disk too: file systems journal names in order.
        (self._layout.pending / f"{key}.{self._boot}").touch()
        faults.point("commit:marked")
        try:
            directory.rename(self._layout.object(key))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            if self.lookup(key) is not None:
                return False
            # Another version's, or one that stands on a missing layer: nobody can use it.
            throw_away(self._layout, self._layout.object(key))
            directory.rename(self._layout.object(key))
        faults.point("commit:renamed")
        return True

    def _flatten(self, ref: ObjectRef) -> ObjectRef:
        key = hashlib.sha256(f"flat {ref.key}".encode()).hexdigest()
        known = self.lookup(key)
        if known is not None:
            return known
        working = WorkingTree(key, EMPTY, self._session.directory("tree-"), layered=False)
        try:
            with self.mounted(ref) as tree:
                working.begin([], tree)
            return self.commit(working, stage="flat")
        except BaseException:
            self.discard(working)
            raise

    def _collect(self) -> None:
        if self._background:
            from kiln.engine.objects.collect import start_collector  # noqa: PLC0415 - seldom needed, slow to load

            start_collector(self.root)

    @contextmanager
    def _full_disk(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise disk_full(self.root, Domain.STORE) from error
            raise

    def free_bytes(self) -> int:
        """Return how much can be written to the store's disk."""
        status = os.statvfs(self.root)
        return status.f_bavail * status.f_frsize
