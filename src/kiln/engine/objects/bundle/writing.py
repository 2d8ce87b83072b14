"""Writing a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kiln.engine.objects.bundle.format import CHUNK_BYTES, LENGTH, MAGIC, BundleDigest, encode_header
from kiln.engine.objects.eviction import stored_objects
from kiln.engine.objects.layout import LAYER_DIGEST, Layout
from kiln.engine.objects.model import ObjectRecord
from kiln.engine.objects.reader import read_record
from kiln.engine.objects.store import ObjectStore
from kiln.engine.objects.stream.writing import write_layer
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux import faults, files
from kiln_wire.codec import encode


@dataclass(frozen=True, slots=True)
class Bundled:
    """What a bundle holds: keys of objects, digests of sources."""

    objects: tuple[str, ...]
    sources: tuple[str, ...]


def write_bundle(
    store: ObjectStore, write: Callable[[bytes], object], wanted: Sequence[str] = (), *, sources: bool = True
) -> Bundled:
    """Write the objects of the stages *wanted* (ids, or keys) with all below them, or all objects.

    With *sources*, the source files come along. Raises KilnError(STORE, "unknown-object"), OSError, and what *write*
    raises.
    """
    layout = Layout(store.root)
    records = _choose(store, layout, wanted)
    digest = BundleDigest()
    write(MAGIC)
    for record in records:
        metadata = dict(store.metadata(record.key)) or None
        header = encode_header({"kind": "object", "record": encode(record), "metadata": metadata})
        write(LENGTH.pack(len(header)) + header)
        layer = write_layer(layout.layer(record.key), write)
        files.write_if_changed(layout.object(record.key) / LAYER_DIGEST, f"{layer}\n".encode("ascii"))
        digest.add(header, layer)
        faults.point("bundle:member-written")
    names = [path.name for path in sorted(layout.files.iterdir()) if not path.name.startswith(".")] if sources else []
    for name in names:
        digest.add(_write_source(layout.files / name, write))
        faults.point("bundle:member-written")
    header = encode_header({"kind": "end", "digest": digest.hex()})
    write(LENGTH.pack(len(header)) + header)
    return Bundled(tuple(record.key for record in records), tuple(names))


def export_bundle(store: ObjectStore, path: Path, wanted: Sequence[str] = (), *, sources: bool = True) -> Bundled:
    """Write a bundle to the file *path*, which appears when it is complete. Raises as `write_bundle` does."""
    with files.atomic_file(path, mode=0o600) as file:
        done = write_bundle(store, file.write, wanted, sources=sources)
        faults.point("bundle:file-done")
    return done


def _choose(store: ObjectStore, layout: Layout, wanted: Sequence[str]) -> list[ObjectRecord]:
    """Return the records to write, each after those that it stands on; what was chosen is pinned by the store."""
    known = {
        entry.key: record for entry in stored_objects(layout) if (record := read_record(layout, entry.key)) is not None
    }
    unknown = [name for name in wanted if name not in known and all(r.stage_id != name for r in known.values())]
    if unknown:
        raise KilnError(
            Domain.STORE,
            "unknown-object",
            f"the store has no object of the stage {unknown[0]}",
            hint="`kiln-osbuild --inspect` prints the ids of a manifest's stages; a pipeline has the id of its last",
            exit_status=ExitStatus.NOT_FOUND,
        )
    tops = [record for record in known.values() if not wanted or record.key in wanted or record.stage_id in wanted]
    chosen: dict[str, ObjectRecord] = {}
    for record in sorted(tops, key=lambda item: (len(item.layers), item.key)):
        if store.lookup(record.key) is not None:
            chosen.update((layer, known[layer]) for layer in record.layers)
    return list(chosen.values())


def _write_source(path: Path, write: Callable[[bytes], object]) -> bytes:
    with path.open("rb") as file:
        size = path.stat().st_size
        header = encode_header({"kind": "source", "name": path.name, "size": size})
        write(LENGTH.pack(len(header)) + header)
        left = size
        while left > 0 and (piece := file.read(min(left, CHUNK_BYTES))):
            write(piece)
            left -= len(piece)
    return header
