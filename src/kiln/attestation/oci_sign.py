"""Sign an image where it lies, so that cosign finds the signature, whichever version it is.

cosign 3 reads Sigstore bundles that refer to the image (OCI 1.1 referrers, or their fallback tag); cosign 1 and 2 read
the tags `sha256-<digest>.sig` and `.att`. Both are written: a few kB.
"""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Final

from kiln.artifact.oci.model import OciTarget, image_manifest, unusable
from kiln.attestation.provenance import time_text
from kiln.attestation.signer import Signer, Stamper, sign_statement
from kiln_wire.canonical import canonical_json, strict_loads
from kiln_wire.digest import Digest
from kiln_wire.dsse import BUNDLE_MEDIA_TYPE
from kiln_wire.oci import (
    BUNDLE_CONTENT,
    BUNDLE_PREDICATE,
    CREATED,
    DSSE_ENVELOPE,
    EMPTY_CONFIG,
    MANIFEST,
    SIGNATURE_ANNOTATION,
    SIMPLE_SIGNING,
    Descriptor,
    OciError,
    fallback_tag,
    read_manifest,
)
from kiln_wire.statement import SIGNATURE_TYPE, Subject, statement_json
from kiln_wire.verify_oci import SIMPLE_KIND

_EMPTY: Final = b"{}"
_CONFIG_TYPE: Final = "application/vnd.oci.image.config.v1+json"
_PREDICATE_ANNOTATION: Final = "predicateType"


def sign_image(
    target: OciTarget, reference: str, signer: Signer, *, name: str, now: datetime, stamper: Stamper | None = None
) -> Digest:
    """Sign the image that *reference* names; *name* is its repository's. Returns its digest.

    Raises KilnError(ARTIFACT) if there is no such image.
    """
    digest = attest_image(target, reference, SIGNATURE_TYPE, {}, signer, now=now, stamper=stamper)
    payload = simple_payload(name, digest)
    signature = base64.b64encode(signer.sign(payload)).decode("ascii")
    _append(target, fallback_tag(digest, ".sig"), payload, SIMPLE_SIGNING, {SIGNATURE_ANNOTATION: signature})
    return digest


def attest_image(
    target: OciTarget,
    reference: str,
    predicate_type: str,
    predicate: object,
    signer: Signer,
    *,
    now: datetime,
    stamper: Stamper | None = None,
) -> Digest:
    """State something about the image that *reference* names. Raises KilnError(ARTIFACT) if there is no such image."""
    try:
        image = target.resolve(reference)
    except OciError as error:
        raise unusable(error) from error
    subject = Subject("image", image.digest)
    bundle = sign_statement(signer, statement_json([subject], predicate_type, predicate), stamper)
    annotations = {
        BUNDLE_CONTENT: "dsse-envelope",
        BUNDLE_PREDICATE: predicate_type,
        CREATED: time_text(now),
    }
    config, layer = _put(target, _EMPTY, EMPTY_CONFIG), _put(target, bundle, BUNDLE_MEDIA_TYPE)
    data = image_manifest(config, [layer], annotations=annotations, subject=image, artifact_type=BUNDLE_MEDIA_TYPE)
    target.push_manifest(data, MANIFEST)
    if predicate_type != SIGNATURE_TYPE:
        envelope = canonical_json(strict_loads(bundle)["dsseEnvelope"])
        annotation = {_PREDICATE_ANNOTATION: predicate_type, SIGNATURE_ANNOTATION: ""}
        _append(target, fallback_tag(image.digest, ".att"), envelope, DSSE_ENVELOPE, annotation)
    return image.digest


def simple_payload(name: str, digest: Digest) -> bytes:
    """Return what cosign's older scheme signs."""
    critical = {
        "identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": str(digest)},
        "type": SIMPLE_KIND,
    }
    return canonical_json({"critical": critical, "optional": None})


def _append(target: OciTarget, tag: str, data: bytes, media_type: str, annotations: dict[str, str]) -> None:
    """Add a layer to the manifest *tag*, which holds all signatures of the older scheme."""
    layers: tuple[Descriptor, ...] = ()
    try:
        layers = read_manifest(target.manifest(target.resolve(tag).digest), tag).layers
    except OciError as error:
        if error.reason != "no-manifest":
            raise unusable(error) from error
    blob = _put(target, data, media_type)
    layers = (*layers, Descriptor(media_type, blob.digest, blob.size_bytes, tuple(sorted(annotations.items()))))
    config = canonical_json(
        {
            "architecture": "",
            "config": {},
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [str(layer.digest) for layer in layers]},
        }
    )
    target.push_manifest(image_manifest(_put(target, config, _CONFIG_TYPE), layers), MANIFEST, tag)


def _put(target: OciTarget, data: bytes, media_type: str) -> Descriptor:
    digest = Digest.of(data)
    target.push_blob(data, digest)
    return Descriptor(media_type, digest, len(data))
