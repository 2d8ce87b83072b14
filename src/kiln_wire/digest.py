"""Content digests, spelled `algorithm:hex` as in the OCI image specification."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 1024 * 1024
_SPELLING: Final = re.compile(r"(?P<algorithm>sha256|sha384|sha512):(?P<hex>[0-9a-f]{64,128})")
_HEX_LENGTH: Final = {"sha256": 64, "sha384": 96, "sha512": 128}


class DigestError(ValueError):
    """The text is not a digest in the spelling `algorithm:hex`."""


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """An algorithm and a lower-case hexadecimal value; the two cannot disagree."""

    algorithm: str
    hex: str

    def __post_init__(self) -> None:
        if _HEX_LENGTH.get(self.algorithm) != len(self.hex) or not re.fullmatch(r"[0-9a-f]+", self.hex):
            raise DigestError(f"{self.algorithm}:{self.hex} is not a digest")

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `sha256:<64 hex digits>`. Raises DigestError."""
        match = _SPELLING.fullmatch(text)
        if match is None:
            raise DigestError(f"{text[:80]!r} is not a digest of the form sha256:<64 hexadecimal digits>")
        return cls(match["algorithm"], match["hex"])

    @classmethod
    def of(cls, data: bytes) -> Digest:
        """Return the SHA-256 digest of *data*."""
        return cls("sha256", hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, path: Path, on_bytes: Callable[[int], None] | None = None) -> Digest:
        """Return the SHA-256 digest of a file; *on_bytes* gets the number of bytes of each chunk read.

        Raises OSError.
        """
        state = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                state.update(chunk)
                if on_bytes is not None:
                    on_bytes(len(chunk))
        return cls("sha256", state.hexdigest())
