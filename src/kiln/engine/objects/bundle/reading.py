"""Reading a bundle that may come from anybody: an object is seen when all of it was verified, or not at all.

What an object *means* is its key, which nothing in the bundle can prove: whoever imports trusts whoever exported.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kiln.engine.objects.bundle.format import (
    CHUNK_BYTES,
    KEY,
    LENGTH,
    MAGIC,
    MAX_HEADER_BYTES,
    BundleDigest,
    damaged,
)
from kiln.engine.objects.bundle.writing import Bundled
from kiln.engine.objects.layout import LAYER_DIGEST, Layout
from kiln.engine.objects.model import RECORD_VERSION, ObjectRecord
from kiln.engine.objects.store import ObjectStore
from kiln.engine.objects.stream.reading import read_layer
from kiln.errors import Domain, disk_full
from kiln.linux import faults, files
from kiln_wire.codec import DocumentError, decode, encode
from kiln_wire.digest import Digest, DigestError


def read_bundle(store: ObjectStore, read: Callable[[int], bytes]) -> Bundled:
    """Put the objects and sources of a bundle into *store*; returns those that it did not have.

    *read* gives at most as many bytes as it is asked for, and none at the end.
    Raises KilnError(STORE, "damaged-bundle", "damaged-stream", "no-space"), OSError, and what *read* raises.
    """
    try:
        return _Reader(store, Layout(store.root), read).run()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(store.root, Domain.STORE) from error
        raise


class _Reader:
    def __init__(self, store: ObjectStore, layout: Layout, read: Callable[[int], bytes]) -> None:
        self._store = store
        self._layout = layout
        self._read = read
        self._digest = BundleDigest()
        self._objects: list[str] = []
        self._sources: list[str] = []

    def run(self) -> Bundled:
        if self._take(len(MAGIC)) != MAGIC:
            raise damaged("it does not begin as one")
        while True:
            (length,) = LENGTH.unpack(self._take(LENGTH.size))
            if length > MAX_HEADER_BYTES:
                raise damaged(f"a header of {length} bytes")
            data = self._take(length)
            match _header(data):
                case {"kind": "object", "record": record, "metadata": dict() | None as metadata}:
                    self._digest.add(data, self._object(record, metadata))
                case {"kind": "source", "name": str(name), "size": int(size)} if size >= 0:
                    self._source(name, size)
                    self._digest.add(data)
                case {"kind": "end", "digest": str(digest)}:
                    if digest != self._digest.hex():
                        raise damaged("its parts are not those that were written")
                    return Bundled(tuple(self._objects), tuple(self._sources))
                case _:
                    raise damaged("a header of another form")

    def _object(self, document: Any, metadata: Any) -> str:
        """Take an object; returns the digest of its layer."""
        record = self._record(document)
        working = self._store.directory("import-")
        try:
            made = working / "object"
            made.mkdir()
            layer = read_layer(self._exactly, made / "layer")
            faults.point("bundle:object-unpacked")
            (made / "object.json").write_text(json.dumps(encode(record)), encoding="utf-8")
            (made / LAYER_DIGEST).write_text(f"{layer}\n", encoding="ascii")
            if metadata:
                (made / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
            faults.point("bundle:object-verified")
            if self._store.adopt(record.key, made):
                self._objects.append(record.key)
            faults.point("bundle:object-renamed")
        finally:
            self._store.throw_away(working)
        return layer

    def _record(self, document: Any) -> ObjectRecord:
        """Return a record that can stand in this store."""
        try:
            record = decode(ObjectRecord, document)
        except DocumentError as error:
            raise damaged(f"a record cannot be read: {error}") from None
        keys = (record.key, *record.layers, *(() if record.base is None else (record.base,)))
        if not all(KEY.fullmatch(key) for key in keys) or record.layers[-1:] != (record.key,):
            raise damaged(f"the record of {record.key[:64]!r} is none")
        if record.version != RECORD_VERSION:
            raise damaged(f"it is of version {record.version} of the store, and this is version {RECORD_VERSION}")
        missing = [layer for layer in record.layers[:-1] if self._store.lookup(layer) is None]
        if missing or len(set(record.layers)) != len(record.layers):
            raise damaged(f"{record.key} comes before what it stands on, or without it")
        return record

    def _source(self, name: str, size: int) -> None:
        try:
            digest = Digest.parse(name)
        except DigestError:
            raise damaged(f"{name[:100]!r} is not the digest of a source") from None
        state = hashlib.new(digest.algorithm)
        target: Path = self._layout.files / str(digest)
        with files.atomic_file(target) as file:
            left = size
            while left > 0:
                piece = self._take(min(left, CHUNK_BYTES))
                state.update(piece)
                file.write(piece)
                left -= len(piece)
            if state.hexdigest() != digest.hex:
                raise damaged(f"the source {digest} has another content")
            new = not target.exists()
        if new:
            self._sources.append(str(digest))

    def _exactly(self, count: int) -> bytes:
        """Return *count* bytes, or what is left."""
        pieces = []
        while count > 0 and (piece := self._read(min(count, CHUNK_BYTES))):
            pieces.append(piece)
            count -= len(piece)
        return b"".join(pieces)

    def _take(self, count: int) -> bytes:
        data = self._exactly(count)
        if len(data) != count:
            raise damaged("it ends too early")
        return data


def _header(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise damaged("a header is not JSON") from None
