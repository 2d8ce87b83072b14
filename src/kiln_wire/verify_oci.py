"""Verify an image in an OCI layout or a registry: its content by digest, and who has signed it.

Steps: trust, resolve, content, bundles, signatures, subjects, validity, policy. Signatures are looked for as
referrers (Sigstore bundles) and under cosign's tags `.sig` and `.att`.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from kiln_wire.canonical import CanonicalError, strict_loads
from kiln_wire.digest import Digest
from kiln_wire.dsse import BUNDLE_MEDIA_TYPE, MAX_BUNDLE_BYTES, STATEMENT_PAYLOAD_TYPE, bundle_json, pae
from kiln_wire.finding import VerificationResult
from kiln_wire.oci import (
    DSSE_ENVELOPE,
    SIGNATURE_ANNOTATION,
    SIMPLE_SIGNING,
    Descriptor,
    Manifest,
    OciError,
    OciSource,
    fallback_tag,
    image_tree,
    read_manifest,
)
from kiln_wire.policy import Policy
from kiln_wire.statement import SIGNATURE_TYPE, Statement, Subject
from kiln_wire.trust import Trust
from kiln_wire.verify_claims import Claims, Step, claims_steps, run_steps

SIMPLE_KIND: Final = "cosign container image signature"
_MAX_SIMPLE_BYTES: Final = 64 * 1024
STEPS: Final = ("trust", "resolve", "content", "bundles", "signatures", "subjects", "validity", "policy")


def verify_oci(source: OciSource, reference: str, trust: Trust, *, policy: Policy | None = None) -> VerificationResult:
    """Carry out all steps on the image that *reference* (a tag, a digest, or nothing) names in *source*."""
    run = _OciVerification(source, reference, trust, policy)
    first: tuple[Step, ...] = (
        ("trust", "Read the keys", run.claims.check_trust),
        ("resolve", "Find the image", run.resolve),
        ("content", "Hash the image", run.check_content),
        ("bundles", "Look for signatures", run.find_bundles),
    )
    return run_steps(run.claims.evidence, (*first, *claims_steps(run.claims)), lambda: run.count)


class _OciVerification:
    def __init__(self, source: OciSource, reference: str, trust: Trust, policy: Policy | None) -> None:
        self.source = source
        self.reference = reference
        self.claims = Claims(trust, policy, closed=False)
        self.top: Descriptor | None = None
        self.count = 0

    def resolve(self) -> bool:
        """Step 2."""
        try:
            self.top = self.source.resolve(self.reference)
        except OciError as error:
            self._error(error)
            return False
        self.claims.subjects = {self.reference or "image": self.top.digest}
        return True

    def check_content(self) -> bool:
        """Step 3: every manifest, configuration and layer has the digest that leads to it."""
        if self.top is None:
            return False
        blobs: dict[Digest, Descriptor] = {}
        try:
            for manifest, item in image_tree(self.source, self.top):
                self.count += 1
                self.claims.evidence.bytes_hashed += item.size_bytes
                wanted = (*manifest.layers, *((manifest.config,) if manifest.config else ()))
                blobs.update({blob.digest: blob for blob in wanted})
        except OciError as error:
            self._error(error)
        ordered = sorted(blobs.values(), key=lambda blob: -blob.size_bytes)
        self.count += len(ordered)
        self.claims.evidence.bytes_hashed += sum(blob.size_bytes for blob in ordered)
        for problem in self.source.check(ordered).values():
            if problem is not None:
                self._error(problem)
        return True

    def find_bundles(self) -> bool:
        """Step 4."""
        if self.top is None:
            return False
        digest = self.top.digest
        try:
            found = self.source.referrers(digest)
        except OciError as error:
            self._error(error)
            found = ()
        for item in found:
            if item.artifact_type == BUNDLE_MEDIA_TYPE:
                self._take(str(item.digest), self._referrer)
        for suffix, take in ((".sig", self._simple), (".att", self._envelopes)):
            tag = fallback_tag(digest, suffix)
            try:
                listed = self.source.resolve(tag)
            except OciError:
                continue  # there is none: the other scheme may have one
            self._take(str(listed.digest), take)
        return True

    def _take(self, name: str, take: Any) -> None:
        try:
            take(read_manifest(self.source.manifest(Digest.parse(name)), name))
        except OciError as error:
            self.claims.evidence.add(
                error.component, error.reason, "a signature that can be read", error.problem, "note"
            )

    def _referrer(self, manifest: Manifest) -> None:
        for layer in manifest.layers:
            if layer.media_type == BUNDLE_MEDIA_TYPE:
                self.claims.add(f"bundle {layer.digest.hex[:12]}", self.source.blob(layer, MAX_BUNDLE_BYTES))

    def _envelopes(self, manifest: Manifest) -> None:
        """Read the attestations of cosign's older scheme: bare envelopes, which name no key that we know them by."""
        for layer in manifest.layers:
            if layer.media_type != DSSE_ENVELOPE:
                continue
            name = f"envelope {layer.digest.hex[:12]}"
            try:
                envelope = strict_loads(self.source.blob(layer, MAX_BUNDLE_BYTES))
                payload = base64.b64decode(envelope["payload"], validate=True)
                signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
                if envelope["payloadType"] != STATEMENT_PAYLOAD_TYPE:
                    continue
            except (CanonicalError, KeyError, IndexError, TypeError, binascii.Error, ValueError) as error:
                self.claims.evidence.add(name, "malformed-bundle", "a DSSE envelope", str(error)[:200], "note")
                continue
            message = pae(STATEMENT_PAYLOAD_TYPE, payload)
            for hint, key in self.claims.trust.by_hint.items():
                if key.verify(signature, message):
                    self.claims.add(name, bundle_json(hint, STATEMENT_PAYLOAD_TYPE, payload, signature))

    def _simple(self, manifest: Manifest) -> None:
        """Read the signatures of cosign's older scheme: over a JSON document that names the digest."""
        evidence = self.claims.evidence
        for layer in manifest.layers:
            if layer.media_type != SIMPLE_SIGNING or self.top is None:
                continue
            name = f"signature {layer.digest.hex[:12]}"
            data = self.source.blob(layer, _MAX_SIMPLE_BYTES)
            try:
                signature = base64.b64decode(dict(layer.annotations)[SIGNATURE_ANNOTATION], validate=True)
                critical = strict_loads(data)["critical"]
                if critical["type"] != SIMPLE_KIND:
                    raise ValueError(f"of the type {critical['type']!r}")
                digest = Digest.parse(critical["image"]["docker-manifest-digest"])
            except (CanonicalError, KeyError, TypeError, binascii.Error, ValueError) as error:
                evidence.add(name, "malformed-bundle", "a signature as cosign writes it", str(error)[:200], "note")
                continue
            hint = next((hint for hint, key in self.claims.trust.by_hint.items() if key.verify(signature, data)), None)
            if hint is None:
                evidence.add(name, "unknown-key", "a trusted key", "no trusted key has signed this", "note")
                continue
            evidence.signers.add(hint)
            evidence.signer_of[name] = hint
            evidence.statements[name] = Statement((Subject("image", digest),), SIGNATURE_TYPE, {})

    def _error(self, error: OciError) -> None:
        self.claims.evidence.error(
            error.component, error.reason, "content with the digest that names it", error.problem
        )
