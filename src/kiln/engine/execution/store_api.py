"""The socket `store` of input services: they ask for trees of pipelines and for directories of source files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from kiln.engine.objects.model import ObjectRef
from kiln.engine.objects.store import ObjectStore
from kiln.errors import KilnError
from kiln.linux import mounts

ENDPOINT: Final = "store"


class StoreApi:
    """Answers for one stage. *trees* are by pipeline id; *held* undoes everything that was made."""

    def __init__(self, store: ObjectStore, trees: Mapping[str, ObjectRef], held: ExitStack) -> None:
        self._store = store
        self._trees = trees
        self._held = held
        self._views: dict[str, Path] = {}

    def handle(self, request: Any, descriptors: Sequence[int]) -> dict[str, Any]:
        """Answer one request; what it cannot do is an `error`."""
        del descriptors
        try:
            match request:
                case {"method": "read-tree", "object-id": str(id_)}:
                    tree = self._tree(id_)
                    return {"path": None if tree is None else str(tree)}
                case {"method": "read-tree-at", "object-id": str(id_), "target": str(target), "subtree": str(subtree)}:
                    return {"path": self._read_at(id_, Path(target), subtree)}
                case {"method": "mkdtemp"}:
                    return {"path": str(self._directory(request))}
                case {"method": "source", "name": str(name)} if name not in ("", ".", "..") and "/" not in name:
                    return {"path": str(self._store.files.parent / name)}
        except (OSError, KilnError, ValueError) as error:
            return {"error": str(error)}
        return {"error": f"the store does not know this request: {str(request)[:200]}"}

    def _tree(self, id_: str) -> Path | None:
        ref = self._trees.get(id_)
        if ref is None:
            return None
        known = self._views.get(id_)
        if known is None:
            target = self._store.directory("read-")
            self._held.callback(target.rmdir)
            known = self._views[id_] = self._held.enter_context(self._store.view(ref, target))
        return known

    def _read_at(self, id_: str, target: Path, subtree: str) -> str | None:
        tree = self._tree(id_)
        if tree is None:
            return None
        descriptor = mounts.open_in_root(tree, subtree)
        try:
            mounts.bind_on(f"/proc/thread-self/fd/{descriptor}", target, read_only=True)
            self._held.callback(mounts.unmount, target, lazy=True)
        finally:
            os.close(descriptor)
        return str(target)

    def _directory(self, request: Mapping[str, Any]) -> Path:
        prefix, suffix = str(request.get("prefix") or "tmp"), str(request.get("suffix") or "")
        if "/" in prefix + suffix:
            raise ValueError("a name has no slash")
        directory = self._store.directory("temporary-")
        self._held.callback(self._store.throw_away, directory)
        named = directory / f"{prefix}{suffix}"
        named.mkdir()
        return named
