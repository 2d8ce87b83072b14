"""The resolution as a JSON document, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from kiln.authoring.catalog.model import AssertionWish, Resolution
from kiln.authoring.recipe.model import Assertion
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads
from kiln_wire.codec import DocumentError, decode, encode, freeze
from kiln_wire.digest import Digest

KIND: Final = "kiln.resolution/v1"


def resolution_document(resolution: Resolution) -> dict[str, Any]:
    """Return the resolution as JSON data, with `kind`."""
    return {"kind": KIND, **encode(resolution)}


def resolution_bytes(resolution: Resolution) -> bytes:
    """Return the canonical bytes (RFC 8785) of the resolution."""
    return canonical_json(resolution_document(resolution))


def resolution_digest(resolution: Resolution) -> Digest:
    """Return the SHA-256 digest of the canonical bytes."""
    return Digest.of(resolution_bytes(resolution))


def read_resolution(data: bytes, file: str) -> Resolution:
    """Read a stored resolution; *file* is the name that errors show. Raises KilnError (CATALOG, `bad-resolution`)."""
    try:
        document = strict_loads(data)
        if not isinstance(document, dict) or document.pop("kind", None) != KIND:
            raise DocumentError("$.kind", f"expected {KIND}")
        resolution = decode(Resolution, document)
    except (CanonicalError, DocumentError) as error:
        place = Place(file, path=getattr(error, "path", ""))
        raise KilnError(
            Domain.CATALOG,
            "bad-resolution",
            f"not a resolution: {error}",
            place,
            hint="remove the file; the next run makes it again",
            exit_status=ExitStatus.USAGE,
        ) from None
    # The codec leaves values of any JSON type as they are; a frozen value holds tuples.
    return replace(
        resolution,
        features=tuple(replace(feature, options=_frozen(feature.options)) for feature in resolution.features),
        assertions=tuple(
            AssertionWish(Assertion(wish.assertion.type, _frozen(wish.assertion.params)), wish.reason)
            for wish in resolution.assertions
        ),
    )


def _frozen(pairs: tuple[tuple[str, object], ...]) -> tuple[tuple[str, object], ...]:
    return tuple((key, freeze(value)) for key, value in pairs)
