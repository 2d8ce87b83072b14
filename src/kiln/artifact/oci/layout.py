"""An OCI image layout in a directory, for writing. Blobs appear whole or not at all; the index is last."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kiln.artifact.oci.model import refused, unusable
from kiln.linux.files import atomic_file, write_atomic
from kiln.linux.locks import exclusive
from kiln_wire.canonical import canonical_json, strict_loads
from kiln_wire.digest import CHUNK_BYTES, Digest
from kiln_wire.files import DirectoryFiles
from kiln_wire.oci import (
    INDEX,
    INDEX_FILE,
    LAYOUT_FILE,
    REF_NAME,
    Descriptor,
    OciError,
    OciLayout,
    fallback_tag,
    read_manifest,
)


class LayoutTarget(OciLayout):
    """A layout that is made if it is not there (kiln.artifact.oci.model.OciTarget). Use open_layout."""

    def __init__(self, directory: Path, files: DirectoryFiles) -> None:
        super().__init__(files)
        self._directory = directory

    def push_blob(self, content: bytes | Path, digest: Digest) -> int:
        """Put a blob there. Raises KilnError(ARTIFACT, "changed") if the content has another digest."""
        path = self._directory / "blobs" / digest.algorithm / digest.hex
        if path.exists():
            return path.stat().st_size
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as target:
            if isinstance(content, bytes):
                target.write(content)
            else:
                with content.open("rb") as source:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)
            target.flush()
            size = target.tell()
            if (Digest.of(content) if isinstance(content, bytes) else Digest.of_file(content)) != digest:
                raise refused("changed", f"the content is not {digest}")
        return size

    def push_manifest(self, data: bytes, media_type: str, tag: str = "") -> Descriptor:
        """Put a manifest there, under its digest and a tag. A referrer without a tag stands in the index by itself."""
        manifest = read_manifest(data, "manifest")
        self.push_blob(data, manifest.digest)
        if not tag and manifest.subject is None:
            return manifest.descriptor
        with self._index() as listed:
            if manifest.subject is not None:
                self._list_referrer(listed, manifest.subject.digest, manifest.descriptor)
            if tag:
                listed[:] = [item for item in listed if (item.get("annotations") or {}).get(REF_NAME) != tag]
                entry = Descriptor(media_type, manifest.digest, len(data), ((REF_NAME, tag),)).document
                listed.append(entry)
        return manifest.descriptor

    def _list_referrer(self, listed: list[dict[str, Any]], subject: Digest, referrer: Descriptor) -> None:
        tag = fallback_tag(subject)
        old = [item for item in listed if (item.get("annotations") or {}).get(REF_NAME) == tag]
        known = [dict(item.document) for item in self.referrers(subject) if item.digest != referrer.digest]
        manifests = sorted([*known, referrer.document], key=lambda item: str(item["digest"]))
        data = canonical_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
        digest = Digest.of(data)
        self.push_blob(data, digest)
        for item in old:
            listed.remove(item)
        listed.append(Descriptor(INDEX, digest, len(data), ((REF_NAME, tag),)).document)

    @contextmanager
    def _index(self) -> Iterator[list[dict[str, Any]]]:
        path = self._directory / INDEX_FILE
        with exclusive(self._directory.with_name(f".{self._directory.name}.lock")):
            document = strict_loads(path.read_bytes())
            yield document["manifests"]
            write_atomic(path, canonical_json(document))


@contextmanager
def open_layout(directory: Path, *, create: bool = False) -> Iterator[LayoutTarget]:
    """Open the layout *directory*, or make an empty one. Raises KilnError(ARTIFACT, "malformed-layout")."""
    if create:
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / LAYOUT_FILE).exists():
            empty = {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
            write_atomic(directory / INDEX_FILE, canonical_json(empty))
            write_atomic(directory / LAYOUT_FILE, canonical_json({"imageLayoutVersion": "1.0.0"}))
    try:
        with DirectoryFiles(directory) as files:
            target = LayoutTarget(directory.absolute(), files)
            target.index()
            yield target
    except OciError as error:
        raise unusable(error) from error
