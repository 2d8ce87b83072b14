"""Reading a store: looking trees up, mounting them, exporting them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from kiln.engine.objects.content import tree_id
from kiln.engine.objects.copying import copy_tree
from kiln.engine.objects.layout import LAYER_DIGEST, Layout
from kiln.engine.objects.model import RECORD_VERSION, Backend, ObjectRecord, ObjectRef
from kiln.engine.objects.session import Session, boot_id, clear_dead_sessions
from kiln.linux import files, mounts
from kiln_wire.codec import DocumentError, decode


class StoreReader:
    """The half of `ObjectStore` that changes no object."""

    def __init__(self, layout: Layout, backend: Backend | Literal["auto"]) -> None:
        """Begin a session in a store that exists. Raises OSError."""
        self._layout = layout
        self._session = Session(layout)
        self._boot = boot_id()
        clear_dead_sessions(layout)
        self.backend: Backend = self._probe() if backend == "auto" else backend

    @property
    def files(self) -> Path:
        """Where source files are, named by digest."""
        return self._layout.files

    @property
    def validated(self) -> Path:
        """Where digests of valid manifests are remembered."""
        return self._layout.validated

    def lookup(self, key: str) -> ObjectRef | None:
        """Return the object of *key*, or None where there is none that can be used here.

        It stays, with its layers, until this store is closed.
        """
        self._session.pin(key)  # first: nobody may evict it between the look and the use
        record = read_record(self._layout, key)
        if record is None or (len(record.layers) > 1 and self.backend != "overlay"):
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

    def host(self, key: str) -> str:
        """Return the remote host that made the object of *key*; empty for this machine, or if there is none."""
        record = read_record(self._layout, key)
        return "" if record is None else record.host

    @contextmanager
    def view(self, ref: ObjectRef, target: Path) -> Iterator[Path]:
        """Mount the tree of *ref* on the directory *target*, to be read. Raises OSError."""
        if len(ref.layers) > 1:
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

    def layer(self, key: str) -> Path:
        """Return the directory of the topmost layer of the object of *key*, which may not be there; only to be read."""
        return self._layout.layer(key)

    def layer_digest(self, key: str) -> str:
        """Return the digest of the layer of an object (see `stream`), computed once and then remembered.

        Raises OSError, KilnError(STORE, "unstreamable-layer").
        """
        from kiln.engine.objects.stream.writing import layer_digest  # noqa: PLC0415 - seldom needed

        remembered = self._layout.object(key) / LAYER_DIGEST
        if remembered.exists():
            return remembered.read_text(encoding="ascii").strip()
        computed = layer_digest(self._layout.layer(key))
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

    def _probe(self) -> Backend:
        """Find out once in each boot of the machine whether trees can be layers here."""
        mark = self._layout.root / f"overlay-works.{self._boot}"
        if mark.exists():
            return "overlay"
        if not mounts.overlay_works(self._session.directory("probe-")):
            return "copy"
        for old in self._layout.root.glob("overlay-works.*"):
            old.unlink(missing_ok=True)
        mark.touch()
        return "overlay"

    def _lower(self, ref: ObjectRef) -> list[Path]:
        """Return the directories of a tree, top first."""
        return [self._layout.layer(layer) for layer in reversed(ref.layers)]


def read_record(layout: Layout, key: str) -> ObjectRecord | None:
    """Return what the store says about an object, or None where it is missing or another version's."""
    try:
        record = decode(ObjectRecord, json.loads((layout.object(key) / "object.json").read_bytes()))
    except (OSError, ValueError, DocumentError):
        return None
    return record if record.version == RECORD_VERSION else None
