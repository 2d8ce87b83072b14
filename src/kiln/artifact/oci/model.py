"""Where OCI content can be put, how references are spelled, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from kiln.errors import Domain, ExitStatus, KilnError
from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest, DigestError
from kiln_wire.oci import MANIFEST, TAG, Descriptor, OciError, OciSource

_NAME: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
"""Distribution specification 1.1, "Pulling manifests"."""
_HOST: Final = re.compile(r"[a-zA-Z0-9.-]+(?::[0-9]{1,5})?|\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?")


class OciTarget(OciSource, Protocol):
    """A place that content can be pushed to, and read back from. All raise KilnError(ARTIFACT)."""

    def push_blob(self, content: bytes | Path, digest: Digest) -> int:
        """Put a blob there, unless it is there already; return its size in bytes."""

    def push_manifest(self, data: bytes, media_type: str, tag: str = "") -> Descriptor:
        """Put a manifest there, under its digest and a tag; keeps the list of referrers of its subject."""


@dataclass(frozen=True, slots=True)
class Reference:
    """`host[:port]/name[:tag][@sha256:...]`: an image in a registry."""

    host: str
    name: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def repository(self) -> str:
        """Host and name."""
        return f"{self.host}/{self.name}"

    @property
    def selector(self) -> str:
        """The digest if there is one, else the tag."""
        return str(self.digest) if self.digest is not None else self.tag

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference; a registry is never guessed. Raises KilnError(ARTIFACT, "bad-reference")."""
        rest, _, digest = text.partition("@")
        host, _, path = rest.partition("/")
        name, colon, tag = path.partition(":")
        try:
            found = Digest.parse(digest) if digest else None
        except DigestError as error:
            raise bad_reference(text, str(error)) from None
        if not _HOST.fullmatch(host) or ("." not in host and ":" not in host and host != "localhost"):
            raise bad_reference(text, "the first part must be the host of a registry")
        if not _NAME.fullmatch(name) or (colon and not TAG.fullmatch(tag)) or (not digest and "@" in text):
            raise bad_reference(text, "not a repository's name with a tag or a digest")
        return cls(host, name, tag or ("" if found else "latest"), found)


def image_manifest(
    config: Descriptor,
    layers: Iterable[Descriptor],
    *,
    annotations: dict[str, str] | None = None,
    subject: Descriptor | None = None,
    artifact_type: str = "",
) -> bytes:
    """Return the canonical bytes of an image manifest."""
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.document,
        "layers": [layer.document for layer in layers],
    }
    if artifact_type:
        document["artifactType"] = artifact_type
    if subject is not None:
        document["subject"] = Descriptor(subject.media_type, subject.digest, subject.size_bytes).document
    if annotations:
        document["annotations"] = annotations
    return canonical_json(document)


def bad_reference(text: str, problem: str) -> KilnError:
    """Return the refusal of a reference."""
    return KilnError(
        Domain.ARTIFACT,
        "bad-reference",
        f"{text[:200]!r} is no reference: {problem}",
        hint="write host:port/name:tag or host:port/name@sha256:..., or the path of a directory",
        exit_status=ExitStatus.USAGE,
    )


def refused(
    reason: str, message: str, *, status: ExitStatus = ExitStatus.REFUSED, retriable: bool = False
) -> KilnError:
    """Return the refusal of content or of a registry."""
    return KilnError(
        Domain.ARTIFACT,
        reason,
        message,
        hint="nothing was changed that has a name; what was transferred is found again by the next attempt",
        exit_status=status,
        retriable=retriable,
    )


def unusable(error: OciError) -> KilnError:
    """Return a reader's error as a refusal."""
    missing = error.reason in ("no-manifest", "missing-blob")
    return refused(error.reason, str(error), status=ExitStatus.NOT_FOUND if missing else ExitStatus.REFUSED)
