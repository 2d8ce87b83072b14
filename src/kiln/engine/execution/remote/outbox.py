"""What a build can send: layers of its store, its source files and its libdir, by digest."""

from __future__ import annotations

import threading
from pathlib import Path

from kiln.engine.execution.remote.bundle import make_bundle
from kiln.engine.objects.model import ObjectRef
from kiln.engine.objects.store import ObjectStore
from kiln.engine.objects.stream.writing import layer_digest


class Outbox:
    """Safe to use from several threads. *runtime* holds the package `osbuild` for the programs of *libdir*."""

    def __init__(self, store: ObjectStore, libdir: Path, runtime: Path) -> None:
        self._store = store
        self._libdir = libdir
        self._runtime = runtime
        self._guard = threading.Lock()
        self._paths: dict[str, Path] = {}
        self._bundle: str | None = None

    def layers(self, ref: ObjectRef) -> tuple[str, ...]:
        """Return the digests of the layers of a tree, from the bottom to the top. Raises OSError, KilnError(STORE)."""
        digests = tuple(self._store.layer_digest(key) for key in ref.layers)
        with self._guard:
            self._paths.update(zip(digests, map(self._store.layer, ref.layers), strict=True))
        return digests

    def bundle(self) -> str:
        """Return the digest of the libdir with its runtime. Raises OSError."""
        with self._guard:
            if self._bundle is None:
                path = self._store.directory("bundle-") / "layer"
                make_bundle(self._libdir, self._runtime, path)
                self._bundle = layer_digest(path)
                self._paths[self._bundle] = path
            return self._bundle

    def layer(self, digest: str) -> Path:
        """Return the directory of a layer whose digest one of the others has returned."""
        with self._guard:
            return self._paths[digest]

    def file(self, checksum: str) -> Path:
        """Return a source file."""
        return self._store.files / checksum
