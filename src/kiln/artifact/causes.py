"""Why two files that should be equal are not: time, order, locale, build id, path, random. Pure.

Each cause is tried by taking it out of both files: what is equal then differed in nothing else. The first that fits is
the answer, from the narrowest to the widest.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import Final, Literal

Cause = Literal["time", "order", "locale", "build-id", "path", "random", "metadata", "unknown"]

_DAY: Final = rb"[0-3]?[0-9]"
_CLOCK: Final = rb"[0-2][0-9]:[0-5][0-9]:[0-6][0-9](?:[.,][0-9]+)?"
_ZONE: Final = rb"(?:Z|[ ]?[+-][0-2][0-9]:?[0-5][0-9]|[ ][A-Z]{3,4})?"
_MONTH: Final = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_WEEKDAY: Final = rb"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? )?"
_YEAR: Final = rb"(?:19|20)[0-9]{2}"
_TIMES: Final = re.compile(
    rb"|".join(
        (
            rb"\b%s[-/][01][0-9][-/][0-3][0-9](?:[T ](?:%s|[0-2][0-9]:[0-5][0-9]))?%s" % (_YEAR, _CLOCK, _ZONE),
            rb"%s%s %s %s(?: %s)?%s" % (_WEEKDAY, _DAY, _MONTH, _YEAR, _CLOCK, _ZONE),
            rb"%s%s[ ]+%s,?[ ](?:%s[ ](?:[A-Z]{3,4}[ ])?)?%s" % (_WEEKDAY, _MONTH, _DAY, _CLOCK, _YEAR),
            rb"\b%s" % _CLOCK,
            rb"\b1[0-9]{9}(?:[0-9]{3})?\b",  # seconds or milliseconds since 1970, from 2001 to 2033
        )
    )
)
_PATHS: Final = re.compile(
    rb"/(?:tmp|var/tmp|build|home|root|work|run|srv|mnt|nix/store|usr/src)(?:/[A-Za-z0-9._+~@-]+)+"
)
_RANDOM: Final = re.compile(
    rb"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|\b[0-9a-fA-F]{16,128}\b|[A-Za-z0-9+/]{40,}={0,2}|\b0x[0-9a-fA-F]{6,16}\b"
    rb"|(?<=[._-])[A-Za-z0-9]{6,10}\b"
)
_NUMBER: Final = re.compile(rb"([0-9])[.,]([0-9])")
_GZIP: Final = b"\x1f\x8b\x08"
_ELF: Final = b"\x7fELF"
_BUILD_ID_NOTE: Final = re.compile(
    rb"\x04\x00\x00\x00(?P<size>[\x08-\x40])\x00\x00\x00\x03\x00\x00\x00GNU\x00", re.DOTALL
)


def cause_of(before: bytes, after: bytes) -> tuple[Cause, str]:
    """Return the cause of a difference and a short text that shows it. Equal files have the cause `metadata`."""
    if before == after:
        return "metadata", "the content is equal"
    for cause, without in _TRIALS:
        if without(before) == without(after):
            return cause, _shown(before, after)
    return "unknown", _shown(before, after)


def _without_time(data: bytes) -> bytes:
    if data.startswith(_GZIP) and len(data) > 10:
        # RFC 1952, section 2.3: four bytes of modification time after the flags
        return data[:4] + bytes(4) + data[8:]
    return _TIMES.sub(b"<time>", data)


def _without_build_id(data: bytes) -> bytes:
    if not data.startswith(_ELF):
        return data
    # System V ABI, note section: name size 4, descriptor size, type 3 (NT_GNU_BUILD_ID), "GNU"
    result, position = bytearray(data), 0
    while (match := _BUILD_ID_NOTE.search(data, position)) is not None:
        (size,) = struct.unpack("<I", match["size"] + b"\0\0\0")
        result[match.end() : match.end() + size] = bytes(size)
        position = match.end() + size
    return bytes(result)


def _without_path(data: bytes) -> bytes:
    return _PATHS.sub(b"<path>", data)


def _without_order(data: bytes) -> bytes:
    return data if b"\0" in data else b"\n".join(sorted(data.splitlines()))


def _without_locale(data: bytes) -> bytes:
    """Decimal commas are points, letters have no case and no accents, and the order of lines does not count."""
    try:
        plain = _NUMBER.sub(rb"\1.\2", data).decode("utf-8").casefold()
    except UnicodeDecodeError:
        return data  # no text: accents are not what makes the difference
    return "\n".join(sorted("".join(c for c in line if c.isascii()) for line in plain.splitlines())).encode("ascii")


def _without_random(data: bytes) -> bytes:
    return _RANDOM.sub(b"<random>", data)


def _all(data: bytes) -> bytes:
    return _without_random(_without_path(_without_time(data)))


_TRIALS: Final[tuple[tuple[Cause, Callable[[bytes], bytes]], ...]] = (
    ("build-id", _without_build_id),
    ("time", _without_time),
    ("path", _without_path),
    ("order", _without_order),
    ("random", _without_random),
    ("time", _all),
    ("locale", _without_locale),
)


def _shown(before: bytes, after: bytes) -> str:
    """Return the first line, or the first byte, that differs."""
    if b"\0" in before or b"\0" in after:
        common = next(
            (position for position, (old, new) in enumerate(zip(before, after, strict=False)) if old != new),
            min(len(before), len(after)),
        )
        return f"{len(before)} and {len(after)} bytes, different from byte {common}"
    for number, (old, new) in enumerate(zip(before.splitlines(), after.splitlines(), strict=False), start=1):
        if old != new:
            return f"line {number}: {_text(old)} -> {_text(new)}"
    return f"{len(before)} and {len(after)} bytes"


def _text(line: bytes) -> str:
    text = "".join(char if char.isprintable() else "?" for char in line.decode("utf-8", "replace"))
    return repr(text if len(text) <= 80 else text[:79] + "…")
