"""OCI images as far as a verifier reads them: descriptors, manifests, layouts on disk, and where signatures lie.

References: OCI image specification 1.1.1 (descriptor, manifest, image index, image layout), distribution
specification 1.1.1 (referrers and their fallback tag), cosign's tag scheme and its bundles as referrers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kiln_wire.canonical import CanonicalError, strict_loads
from kiln_wire.digest import Digest, DigestError
from kiln_wire.dsse import BUNDLE_MEDIA_TYPE
from kiln_wire.files import FileError, Files

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
EMPTY_CONFIG: Final = "application/vnd.oci.empty.v1+json"
SIMPLE_SIGNING: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
DSSE_ENVELOPE: Final = "application/vnd.dsse.envelope.v1+json"
SIGNATURE_ANNOTATION: Final = "dev.cosignproject.cosign/signature"
BUNDLE_CONTENT: Final = "dev.sigstore.bundle.content"
BUNDLE_PREDICATE: Final = "dev.sigstore.bundle.predicateType"
CREATED: Final = "org.opencontainers.image.created"
REF_NAME: Final = "org.opencontainers.image.ref.name"
INDEXES: Final = (INDEX, DOCKER_INDEX)
MANIFESTS: Final = (MANIFEST, DOCKER_MANIFEST)
MAX_MANIFEST_BYTES: Final = 4 * 1024 * 1024  # distribution specification: registries should accept at least 4 MiB
MAX_DEPTH: Final = 4
TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
_MAX_LISTED: Final = 10_000


class OciError(Exception):
    """Content that is not there, or not what it should be; *reason* is a stable kebab-case word."""

    def __init__(self, component: str, reason: str, problem: str) -> None:
        super().__init__(f"{component}: {problem}")
        self.component = component
        self.reason = reason
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A content by media type, digest and size."""

    media_type: str
    digest: Digest
    size_bytes: int
    annotations: tuple[tuple[str, str], ...] = ()
    artifact_type: str = ""

    @property
    def document(self) -> dict[str, Any]:
        """The descriptor as JSON data."""
        result: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size_bytes,
        }
        if self.artifact_type:
            result["artifactType"] = self.artifact_type
        if self.annotations:
            result["annotations"] = dict(self.annotations)
        return result


@dataclass(frozen=True, slots=True)
class Manifest:
    """An image manifest or an index, and the bytes that its digest is of."""

    media_type: str
    data: bytes
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    manifests: tuple[Descriptor, ...] = ()
    artifact_type: str = ""
    annotations: tuple[tuple[str, str], ...] = field(default=())
    subject: Descriptor | None = None

    @property
    def digest(self) -> Digest:
        """Of the bytes."""
        return Digest.of(self.data)

    @property
    def descriptor(self) -> Descriptor:
        """How others refer to it; a referrers list copies type and annotations up."""
        kind = self.artifact_type or (self.config.media_type if self.config is not None else "")
        return Descriptor(self.media_type, self.digest, len(self.data), self.annotations, kind)


class OciSource(Protocol):
    """A layout on disk, in an archive, or a repository of a registry. All raise OciError."""

    def resolve(self, reference: str) -> Descriptor:
        """Return what a tag or a digest stands for; the only image there is for an empty reference."""

    def manifest(self, digest: Digest) -> bytes:
        """Return a manifest, which has this digest."""

    def blob(self, descriptor: Descriptor, max_bytes: int) -> bytes:
        """Return a small blob, which has this digest."""

    def check(self, descriptors: list[Descriptor]) -> dict[Digest, OciError | None]:
        """Read blobs to their ends; return what is wrong with each."""

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return the manifests that have *digest* as their subject."""


def read_descriptor(value: Any, where: str) -> Descriptor:
    """Read a descriptor. Raises OciError `malformed-manifest`."""
    try:
        annotations = value.get("annotations") or {}
        size = value["size"]
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise ValueError("size is not a number of bytes")
        if not all(isinstance(text, str) for pair in annotations.items() for text in pair):
            raise ValueError("annotations are not texts")
        return Descriptor(
            str(value["mediaType"]),
            Digest.parse(value["digest"]),
            size,
            tuple(sorted(annotations.items())),
            str(value.get("artifactType") or ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError, DigestError) as error:
        raise OciError(where, "malformed-manifest", f"not a descriptor: {str(error)[:200]}") from None


def read_manifest(data: bytes, where: str) -> Manifest:
    """Read a manifest or an index. Raises OciError `malformed-manifest`."""
    try:
        document = strict_loads(data, max_bytes=MAX_MANIFEST_BYTES)
    except CanonicalError as error:
        raise OciError(where, "malformed-manifest", str(error)) from None
    if not isinstance(document, dict) or document.get("schemaVersion") != 2:
        raise OciError(where, "malformed-manifest", "not a document of schema version 2")
    listed = document.get("manifests") if "manifests" in document else document.get("layers")
    if not isinstance(listed, list) or len(listed) > _MAX_LISTED:
        raise OciError(where, "malformed-manifest", "neither layers nor manifests")
    items = tuple(read_descriptor(item, where) for item in listed)
    is_index = "manifests" in document
    if is_index == ("layers" in document or "config" in document):
        raise OciError(where, "malformed-manifest", "an image and an index at once")
    media_type = str(document.get("mediaType") or (INDEX if is_index else MANIFEST))
    if media_type not in (INDEXES if is_index else MANIFESTS):
        raise OciError(where, "malformed-manifest", f"of the type {media_type[:80]}")
    subject = document.get("subject")
    annotations = document.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(
        isinstance(text, str) for pair in annotations.items() for text in pair
    ):
        raise OciError(where, "malformed-manifest", "annotations are not texts")
    return Manifest(
        media_type=media_type,
        data=data,
        config=None if is_index else read_descriptor(document.get("config"), where),
        layers=() if is_index else items,
        manifests=items if is_index else (),
        artifact_type=str(document.get("artifactType") or ""),
        annotations=tuple(sorted(annotations.items())),
        subject=None if subject is None else read_descriptor(subject, where),
    )


def fallback_tag(digest: Digest, suffix: str = "") -> str:
    """Return the tag of a digest: of its referrers, or with `.sig` and `.att` of cosign's older scheme."""
    return f"{digest.algorithm}-{digest.hex}{suffix}"


class OciLayout:
    """An image layout in a directory or an archive; reading only."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def index(self) -> Manifest:
        """Return index.json. Raises OciError `malformed-layout` or `malformed-manifest`."""
        try:
            marker = strict_loads(self._files.read(LAYOUT_FILE, 4096))
            if not isinstance(marker, dict) or marker.get("imageLayoutVersion") != "1.0.0":
                raise OciError(LAYOUT_FILE, "malformed-layout", "not a layout of version 1.0.0")
            return read_manifest(self._files.read(INDEX_FILE, MAX_MANIFEST_BYTES), INDEX_FILE)
        except FileError as error:
            raise OciError(error.name, "malformed-layout", error.problem) from None
        except CanonicalError as error:
            raise OciError(LAYOUT_FILE, "malformed-layout", str(error)) from None

    def resolve(self, reference: str) -> Descriptor:
        """Return what a tag or digest stands for."""
        listed = self.index().manifests
        if reference.startswith("sha256:"):
            found = [item for item in listed if str(item.digest) == reference]
            if not found:
                data = self.manifest(Digest.parse(reference))
                return read_manifest(data, reference).descriptor
        elif reference:
            found = [item for item in listed if dict(item.annotations).get(REF_NAME) == reference]
        else:
            found = [item for item in listed if not is_companion(item)]
        different = {item.digest for item in found}
        if len(different) != 1:
            what = f"{len(different)} images" if different else "no image"
            raise OciError(INDEX_FILE, "no-manifest", f"{what} for {reference or 'an empty reference'!r}")
        return found[0]

    def manifest(self, digest: Digest) -> bytes:
        """Return a manifest, which has this digest."""
        return self._read(digest, MAX_MANIFEST_BYTES)

    def blob(self, descriptor: Descriptor, max_bytes: int) -> bytes:
        """Return a small blob, which has this digest."""
        return self._read(descriptor.digest, max_bytes)

    def check(self, descriptors: list[Descriptor]) -> dict[Digest, OciError | None]:
        """Read blobs to their ends; return what is wrong with each."""
        names = {_blob_name(item.digest): item.digest for item in descriptors}
        result: dict[Digest, OciError | None] = {}
        for name, got in self._files.digests(names).items():
            wanted = names[name]
            if not isinstance(got, Digest):
                result[wanted] = OciError(name, "missing-blob", got.problem)
            else:
                result[wanted] = None if got == wanted else OciError(name, "changed", f"has the digest {got}")
        return result

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...]:
        """Return the manifests of the index, or below the fallback tag, that have *digest* as their subject."""
        tag = fallback_tag(digest)
        found: dict[Digest, Descriptor] = {}
        for item in self.index().manifests:
            nested: tuple[Descriptor, ...] = (item,)
            if dict(item.annotations).get(REF_NAME) == tag and item.media_type in INDEXES:
                nested = read_manifest(self.manifest(item.digest), str(item.digest)).manifests
            for candidate in nested:
                if candidate.media_type in MANIFESTS and candidate.digest != digest:
                    manifest = read_manifest(self.manifest(candidate.digest), str(candidate.digest))
                    if manifest.subject is not None and manifest.subject.digest == digest:
                        found[candidate.digest] = manifest.descriptor
        return tuple(found.values())

    def _read(self, digest: Digest, max_bytes: int) -> bytes:
        name = _blob_name(digest)
        try:
            data = self._files.read(name, max_bytes)
        except FileError as error:
            raise OciError(name, "missing-blob", error.problem) from None
        if digest.algorithm == "sha256" and Digest.of(data) != digest:
            raise OciError(name, "changed", f"has the digest {Digest.of(data)}")
        return data


def is_companion(item: Descriptor) -> bool:
    """Whether a descriptor of an index is a signature or a list of referrers, not an image."""
    name = dict(item.annotations).get(REF_NAME, "")
    return (
        item.artifact_type == BUNDLE_MEDIA_TYPE or re.fullmatch(r"sha256-[0-9a-f]{64}(\.sig|\.att)?", name) is not None
    )


def image_tree(source: OciSource, top: Descriptor) -> Iterator[tuple[Manifest, Descriptor]]:
    """Yield an image's manifests, from the top, with the descriptors that name them. Raises OciError."""
    pending = [(top, 0)]
    seen: set[Digest] = set()
    while pending:
        item, depth = pending.pop()
        if item.digest in seen:
            continue
        seen.add(item.digest)
        if depth > MAX_DEPTH or len(seen) > _MAX_LISTED:
            raise OciError(str(item.digest), "malformed-manifest", "indexes are nested too deep, or too many")
        manifest = read_manifest(source.manifest(item.digest), str(item.digest))
        if len(manifest.data) != item.size_bytes:
            raise OciError(str(item.digest), "wrong-size", f"has {len(manifest.data)} bytes, not {item.size_bytes}")
        yield manifest, item
        pending += [(child, depth + 1) for child in manifest.manifests if child.media_type in (*INDEXES, *MANIFESTS)]


def _blob_name(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"
