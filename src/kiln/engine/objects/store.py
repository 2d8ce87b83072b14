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
from kiln.engine.objects.content import tree_id
from kiln.engine.objects.copying import copy_tree
from kiln.engine.objects.hardlinks import keep_together
from kiln.engine.objects.layout import Layout
from kiln.engine.objects.model import EMPTY, RECORD_VERSION, Backend, ObjectRecord, ObjectRef
from kiln.engine.objects.session import Session, boot_id, clear_dead_sessions, throw_away
from kiln.engine.objects.working import WorkingTree
from kiln.errors import Domain, KilnError, disk_full
from kiln.linux import files, locks, mounts
from kiln_wire.codec import DocumentError, decode, encode

MAX_LAYERS: Final = 64
"""A deeper stack is copied into one layer: each layer costs a look-up for each name, and the kernel takes 500."""
CLAIM_PAUSE_SECONDS: Final = 0.05


class ObjectStore:
    """An open store; close it, or use it as a context manager. Safe to use from several threads.

    *trace* is called with the names of the points between which a kill must do no harm (tests kill there). With
    *background*, closing starts a process of low priority that deletes the trash; else `gc` does it when called.
    """

    def __init__(
        self,
        root: Path,
        *,
        backend: Backend | Literal["auto"] = "auto",
        background: bool = True,
        trace: Callable[[str], None] = lambda point: None,
    ) -> None:
        """Open the store at *root*, which is made if missing. Raises KilnError(STORE, ...)."""
        self.root = root.absolute()
        self._layout = Layout(self.root)
        self._trace = trace
        self._background = background
        self._held = ExitStack()
        with self._full_disk():
            self._layout.make()
            self._held.enter_context(locks.shared(self.root / "store.lock"))
            self._session = Session(self._layout)
            self._boot = boot_id()
            self._drop_unwritten()
            clear_dead_sessions(self._layout)
            self.backend: Backend = self._probe() if backend == "auto" else backend

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the use of the store by this process."""
        self._session.close()
        self._held.close()
        maximum = eviction.read_maximum(self.root)
        if maximum is not None:
            eviction.evict(self._layout, maximum)
        if self._background and (any(self._layout.trash.iterdir()) or any(self._layout.pending.iterdir())):
            from kiln.engine.objects.collect import start_collector  # noqa: PLC0415 - seldom needed, slow to load

            start_collector(self.root)

    def set_maximum(self, maximum: int | None) -> None:
        """Keep the store below *maximum* bytes from now on, in every process; None for no limit. Raises OSError."""
        eviction.write_maximum(self.root, maximum)

    def touch(self, key: str) -> None:
        """Say that an object was used, so that it is evicted later than others."""
        eviction.touch(self._layout, key)

    @property
    def files(self) -> Path:
        """Where source files are, named by digest."""
        return self._layout.files

    @property
    def validated(self) -> Path:
        """Where digests of valid manifests are remembered."""
        return self._layout.validated

    def lookup(self, key: str) -> ObjectRef | None:
        """Return the object of *key*, or None where there is none that can be used here."""
        try:
            record = decode(ObjectRecord, json.loads((self._layout.object(key) / "object.json").read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, DocumentError):
            return None  # written by another version
        if record.version != RECORD_VERSION or (len(record.layers) > 1 and self.backend != "overlay"):
            return None
        if not all(self._layout.layer(layer).is_dir() for layer in record.layers):
            return None
        return ObjectRef(key, record.layers)

    def metadata(self, key: str) -> Mapping[str, Any]:
        """Return what the stage that made the object of *key* reported, or nothing."""
        try:
            document = json.loads((self._layout.object(key) / "metadata.json").read_bytes())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

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
            working = WorkingTree(key, base, self._session.directory("tree-"), self.backend == "overlay")
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
    ) -> ObjectRef:
        """Make the tree an object, in O(1) but for the files that the stage changed; an existing object wins.

        Nothing in the layer stays newer than *source_epoch* (seconds). Raises KilnError(STORE, "no-space"), OSError.
        """
        key = working.key
        layers = (*working.base.layers, key) if working.layered else (key,)
        record = ObjectRecord(
            RECORD_VERSION, key, working.base.key if working.base.layers else None, layers, stage, stage_id
        )
        with self._full_disk():
            if working.layered:
                keep_together(working.tree, working.layer, working.work)
            working.mounted.close()
            if source_epoch is not None:
                clamp_times(working.layer, source_epoch)
            self._trace("commit:layer-done")
            (working.object / "object.json").write_text(json.dumps(encode(record)), encoding="utf-8")
            if metadata:
                (working.object / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
            self._trace("commit:before-pending")
            # Before the name, and in this order on disk too: file systems journal names in order.
            (self._layout.pending / f"{key}.{self._boot}").touch()
            self._trace("commit:before-rename")
            try:
                working.object.rename(self._layout.object(key))
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
            self._trace("commit:after-rename")
        self.discard(working)
        return ObjectRef(key, layers)

    def discard(self, working: WorkingTree) -> None:
        """End a working tree without a trace. Safe to call again."""
        working.mounted.close()
        throw_away(self._layout, working.directory)
        self._trace("discard:after-rename")

    def keep(self, working: WorkingTree, destination: Path) -> None:
        """Copy a tree that failed to *destination*, to be looked at. Raises OSError."""
        copy_tree(working.tree, destination)

    @contextmanager
    def view(self, ref: ObjectRef, target: Path) -> Iterator[Path]:
        """Mount the tree of *ref* on the directory *target*, to be read. Raises OSError."""
        if self.backend == "overlay" and ref.layers:
            with mounts.overlay(self._lower(ref), target) as path:
                yield path
        else:
            source = self._layout.layer(ref.layers[0]) if ref.layers else self._layout.empty
            with mounts.bind(source, target, read_only=True) as path:
                yield path

    @contextmanager
    def mounted(self, ref: ObjectRef) -> Iterator[Path]:
        """Yield a directory where the tree of *ref* can be read."""
        target = self._session.directory("view-")
        try:
            with self.view(ref, target) as path:
                yield path
        finally:
            target.rmdir()

    def content_id(self, ref: ObjectRef) -> str:
        """Return the content id of a tree (see `content`), computed once and then remembered. Raises OSError."""
        remembered = self._layout.object(ref.key) / "content-id"
        if ref.layers and remembered.exists():
            return remembered.read_text(encoding="ascii").strip()
        with self.mounted(ref) as tree:
            computed = tree_id(tree)
        if ref.layers:
            files.write_atomic(remembered, f"{computed}\n".encode("ascii"))
        return computed

    def export(self, ref: ObjectRef, destination: Path, *, owners: bool = True) -> int:
        """Copy the files of a tree into *destination*; returns their bytes. Raises KilnError(ENGINE, "no-space").

        Without *owners*, everything belongs to whoever copies.
        """
        top = self._layout.layer(ref.layers[-1]) if ref.layers else self._layout.empty

        def real(relative: str) -> Path | None:
            # What the topmost layer has is what the tree shows; outside an overlay the kernel can share blocks.
            path = top / relative
            return path if path.is_file() and not path.is_symlink() else None

        with self.mounted(ref) as tree:
            return copy_tree(tree, destination, real=real, owners=owners)

    def directory(self, prefix: str) -> Path:
        """Return a new directory on the store's file system that goes away with this process."""
        return self._session.directory(prefix)

    def throw_away(self, path: Path) -> None:
        """Delete a directory of the store later."""
        throw_away(self._layout, path)

    def gc(self) -> int:
        """Have everything on disk and delete the trash now; returns the number of deleted entries. Raises OSError."""
        from kiln.engine.objects.collect import collect  # noqa: PLC0415

        return collect(self.root)

    def _probe(self) -> Backend:
        """Find out once in each boot of the machine whether trees can be layers here."""
        mark = self.root / f"overlay-works.{self._boot}"
        if mark.exists():
            return "overlay"
        if not mounts.overlay_works(self._session.directory("probe-")):
            return "copy"
        for old in self.root.glob("overlay-works.*"):
            old.unlink(missing_ok=True)
        mark.touch()
        return "overlay"

    def _lower(self, ref: ObjectRef) -> list[Path]:
        """Return the directories of a tree, top first; never none."""
        return [*(self._layout.layer(layer) for layer in reversed(ref.layers)), self._layout.empty]

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

    def _drop_unwritten(self) -> None:
        """Drop objects of an earlier boot that were never known to be on disk."""
        for mark in list(self._layout.pending.iterdir()):
            key, _, boot = mark.name.partition(".")
            if boot != self._boot:
                throw_away(self._layout, self._layout.object(key))
                mark.unlink(missing_ok=True)

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
