"""Decompression that stops at a limit: a small file must not become an endless one."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Sized
from typing import Final

CHUNK_BYTES: Final = 4 * 1024 * 1024
XZ_MEMORY_BYTES: Final = 256 * 1024 * 1024
"""xz -9 needs 65 MiB to decompress; a header can ask for 4 GiB."""
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS  # zlib's spelling of "a gzip header"
SUFFIXES: Final = (".xz", ".gz", "")
"""What `decompress` reads, best compression first."""


def decompress(data: bytes, suffix: str, limit_bytes: int) -> bytes:
    """Return the content of a file whose name ends with *suffix*.

    Raises ValueError when it is damaged, truncated, followed by other data, or longer than *limit_bytes*.
    """
    if suffix == "":
        _within(data, limit_bytes)
        return data
    return _xz(data, limit_bytes) if suffix == ".xz" else _gzip(data, limit_bytes)


def _xz(data: bytes, limit_bytes: int) -> bytes:
    result = bytearray()
    rest = data
    while rest:  # xz(1) joins streams when it compresses with several threads' files
        stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY_BYTES)
        try:
            piece = stream.decompress(rest, CHUNK_BYTES)
            result += piece
            while not stream.eof and (piece or not stream.needs_input):
                piece = stream.decompress(b"", CHUNK_BYTES)
                result += piece
                _within(result, limit_bytes)
        except (lzma.LZMAError, EOFError) as error:
            raise ValueError(f"the xz file is damaged: {error}") from None
        if not stream.eof:
            raise ValueError("the xz file is truncated")
        rest = stream.unused_data
    _within(result, limit_bytes)
    return bytes(result)


def _gzip(data: bytes, limit_bytes: int) -> bytes:
    result = bytearray()
    rest = data
    while rest:
        stream = zlib.decompressobj(_GZIP_WINDOW)
        try:
            piece = stream.decompress(rest, CHUNK_BYTES)
            result += piece
            while not stream.eof and (piece or stream.unconsumed_tail):
                piece = stream.decompress(stream.unconsumed_tail, CHUNK_BYTES)
                result += piece
                _within(result, limit_bytes)
        except zlib.error as error:
            raise ValueError(f"the gzip file is damaged: {error}") from None
        if not stream.eof:
            raise ValueError("the gzip file is truncated")
        rest = stream.unused_data
    _within(result, limit_bytes)
    return bytes(result)


def _within(data: Sized, limit_bytes: int) -> None:
    if len(data) > limit_bytes:
        raise ValueError(f"decompressed, it is longer than {limit_bytes} bytes")
