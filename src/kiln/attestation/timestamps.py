"""Trusted time: RFC 3161 stamps over signatures, asked of an authority over HTTP and checked with its certificates.

rfc3161-client reads and checks the stamps. Reference: RFC 3161 (sections 2.4 and 3.4), sigstore_bundle.proto (the
stamp is over the bytes of the signature).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kiln.errors import Domain, ExitStatus, KilnError
from kiln_wire.dsse import Bundle

REQUEST_TYPE: Final = "application/timestamp-query"
MAX_RESPONSE_BYTES: Final = 64 * 1024
TIMEOUT_SECONDS: Final = 30.0

Post = Callable[[bytes], bytes]
"""Sends a DER request and returns the DER response."""


class Authority:
    """A time stamp authority (kiln.attestation.signer.Stamper)."""

    def __init__(self, post: Post) -> None:
        self._post = post

    def stamp(self, data: bytes) -> bytes:
        """Return the authority's response over *data*. Raises KilnError(ATTESTATION, "no-timestamp")."""
        from rfc3161_client import TimestampRequestBuilder, decode_timestamp_response  # noqa: PLC0415

        request = TimestampRequestBuilder().data(data).nonce(nonce=True).cert_request(cert_request=True).build()
        answer = self._post(request.as_bytes())
        try:
            response = decode_timestamp_response(answer)
            if response.tst_info.nonce != request.nonce:
                raise ValueError("the answer is to another request")
        except ValueError as error:
            raise no_timestamp(f"the authority's answer can't be used: {error}") from error
        return answer


def http_authority(url: str) -> Authority:
    """Return the authority at *url*."""

    def post(body: bytes) -> bytes:
        import httpx  # noqa: PLC0415

        try:
            answer = httpx.post(
                url, content=body, headers={"Content-Type": REQUEST_TYPE}, timeout=TIMEOUT_SECONDS
            ).raise_for_status()
        except httpx.HTTPError as error:
            raise no_timestamp(f"the time stamp authority does not answer: {error}") from error
        if len(answer.content) > MAX_RESPONSE_BYTES:
            raise no_timestamp(f"an answer of {len(answer.content)} bytes is no time stamp")
        return answer.content

    return Authority(post)


def stamp_time(bundle: Bundle, authorities: tuple[str, ...]) -> int | None:
    """Return the earliest time of a good stamp of the bundle's signature (kiln_wire.trust.StampTime).

    *authorities* are certificates in PEM; a stamp whose chain ends in none of them is no stamp.
    """
    if not bundle.timestamps or not authorities:
        return None
    from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415
    from rfc3161_client import VerifierBuilder, decode_timestamp_response  # noqa: PLC0415
    from rfc3161_client.errors import VerificationError  # noqa: PLC0415

    times = []
    for stamp in bundle.timestamps:
        for chain in authorities:
            try:
                *others, root = load_pem_x509_certificates(chain.encode("ascii"))
                builder = VerifierBuilder().add_root_certificate(root)
                for certificate in others[1:]:
                    builder = builder.add_intermediate_certificate(certificate)
                if others:
                    builder = builder.tsa_certificate(others[0])
                response = decode_timestamp_response(stamp)
                builder.build().verify_message(response, bundle.signature)
                times.append(int(response.tst_info.gen_time.timestamp()))
            except (VerificationError, ValueError):
                continue
    return min(times, default=None)


def no_timestamp(problem: str) -> KilnError:
    """Return the refusal of a build whose signatures can't be stamped."""
    return KilnError(
        Domain.ATTESTATION,
        "no-timestamp",
        problem,
        hint="correct `timestamp_authority` in the settings, or leave it out; nothing was signed without a stamp",
        exit_status=ExitStatus.INFRASTRUCTURE,
        retriable=True,
    )
