"""Objects and sources as one file, with which another machine's store can be filled.

    magic, then for each part: length of its header (4 bytes, big-endian), header (JSON), content

A header is `{"kind": "object", "record": ..., "metadata": ...}`, whose content is the stream of its layer (which ends
itself, see `stream`), `{"kind": "source", "name": <digest>, "size": ...}`, whose content is the file, or at the end
`{"kind": "end", "digest": ...}`: the SHA-256 over all headers before and the digests of the layers. Objects stand after
those that they stand on.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from typing import Any, Final

from kiln.errors import Domain, ExitStatus, KilnError

MAGIC: Final = b"kiln-bundle/1\n"
LENGTH: Final = struct.Struct(">I")
MAX_HEADER_BYTES: Final = 256 * 1024 * 1024
"""What a stage reports about itself has at most 64 MiB of JSON, which an escape can make four times as long."""
CHUNK_BYTES: Final = 1024 * 1024
KEY: Final = re.compile(r"[0-9a-f]{64}")


class BundleDigest:
    """The digest over a bundle."""

    def __init__(self) -> None:
        self._state = hashlib.sha256(MAGIC)

    def add(self, header: bytes, layer: str = "") -> None:
        """Take a part."""
        self._state.update(LENGTH.pack(len(header)) + header + layer.encode("ascii"))

    def hex(self) -> str:
        """Return it."""
        return self._state.hexdigest()


def encode_header(header: Mapping[str, Any]) -> bytes:
    """Return the bytes of a header."""
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode("utf-8")


def damaged(problem: str) -> KilnError:
    """Return the refusal of a bundle."""
    return KilnError(
        Domain.STORE,
        "damaged-bundle",
        f"the bundle is not complete and unchanged: {problem}",
        hint="objects that came whole before this place were kept; export the bundle again and import it",
        exit_status=ExitStatus.REFUSED,
    )
