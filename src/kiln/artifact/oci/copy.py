"""Copy an image with everything that refers to it: signatures that stay behind make an image unverifiable."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from kiln.artifact.oci.model import OciTarget, unusable
from kiln.artifact.oci.registry import Registry
from kiln.events.model import Progress, Sink
from kiln_wire.digest import Digest
from kiln_wire.oci import MAX_MANIFEST_BYTES, Descriptor, OciError, OciSource, fallback_tag, image_tree

STEP: Final = "copy"
SUFFIXES: Final = (".sig", ".att")
_SMALL_BYTES: Final = MAX_MANIFEST_BYTES


def copy_image(source: OciSource, reference: str, target: OciTarget, tag: str, sink: Sink) -> Descriptor:
    """Copy the image that *reference* names in *source*, with referrers and companion tags; return its descriptor.

    The tag is set last. Raises KilnError(ARTIFACT) as both sides do.
    """
    try:
        top = source.resolve(reference)
        _copy_tree(source, top, target, sink)
        target.push_manifest(source.manifest(top.digest), top.media_type, tag)
        for item in source.referrers(top.digest):
            _copy_tree(source, item, target, sink)
            target.push_manifest(source.manifest(item.digest), item.media_type)
        for suffix in SUFFIXES:
            companion = fallback_tag(top.digest, suffix)
            try:
                item = source.resolve(companion)
            except OciError:
                continue
            _copy_tree(source, item, target, sink)
            target.push_manifest(source.manifest(item.digest), item.media_type, companion)
    except OciError as error:
        raise unusable(error) from error
    return top


def _copy_tree(source: OciSource, top: Descriptor, target: OciTarget, sink: Sink) -> None:
    manifests = list(image_tree(source, top))
    for manifest, _ in manifests:
        blobs = (*manifest.layers, *((manifest.config,) if manifest.config else ()))
        for number, blob in enumerate(blobs, start=1):
            _copy_blob(source, blob, target)
            sink.emit(Progress(STEP, number, len(blobs), "files", str(blob.digest)))
    for manifest, item in reversed(manifests[1:]):  # children first: registries refuse an index of nothing
        target.push_manifest(manifest.data, item.media_type)


def _copy_blob(source: OciSource, blob: Descriptor, target: OciTarget) -> None:
    if blob.size_bytes <= _SMALL_BYTES:
        target.push_blob(source.blob(blob, _SMALL_BYTES), blob.digest)
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "blob"
        with path.open("wb") as file:
            if isinstance(source, Registry):
                source.fetch(blob, file)
            else:
                file.write(source.blob(blob, blob.size_bytes))
        target.push_blob(path, Digest(blob.digest.algorithm, blob.digest.hex))
