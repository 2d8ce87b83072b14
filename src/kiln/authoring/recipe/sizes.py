"""Sizes as people write them: `10G`, `512 MiB`, `20 GB`."""

from __future__ import annotations

import re
from typing import Final

MIB: Final = 1024 * 1024
_UNITS: Final[dict[str, int]] = {
    "": 1,
    # A bare letter is binary, as in QEMU, systemd and fallocate.
    **{letter: 1024**power for power, letter in enumerate(("k", "m", "g", "t"), 1)},
    # IEC 80000-13 for the others.
    **{f"{letter}ib": 1024**power for power, letter in enumerate(("k", "m", "g", "t"), 1)},
    **{f"{letter}b": 1000**power for power, letter in enumerate(("k", "m", "g", "t"), 1)},
}
SIZE: Final = re.compile(
    r"(?P<number>[0-9]{1,9})(?P<fraction>\.[0-9]{1,3})?[ ]?(?P<unit>[kmgt](?:i?b)?)?", re.IGNORECASE
)


def parse_size(text: str) -> int | None:
    """Return the bytes that *text* means, or None if it is not a size."""
    match = SIZE.fullmatch(text.strip())
    if match is None:
        return None
    unit = _UNITS[(match["unit"] or "").lower()]
    thousandths = int((match["fraction"] or ".0")[1:].ljust(3, "0"))
    return int(match["number"]) * unit + thousandths * unit // 1000


def whole_mib(size_bytes: int) -> int:
    """Return *size_bytes* rounded up to whole MiB, the grain of partitions."""
    return -(-size_bytes // MIB) * MIB


def size_text(size_bytes: int) -> str:
    """Return a size for people, in the largest binary unit that writes it as a whole number."""
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size_bytes and size_bytes % 1024**power == 0:
            return f"{size_bytes // 1024**power} {unit}"
    return f"{size_bytes} bytes"
