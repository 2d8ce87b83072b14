"""What can be seen to be wrong without asking an archive: password hashes, the places of partitions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from kiln.authoring.compose.layout import GPT_BACKUP_BYTES, MIB, SECTOR_BYTES, usable_bytes
from kiln.authoring.unlocked.model import DISK_ASSEMBLER, USERS_STAGE, Change, Finding, Path, Unlocked, stages

FIRST_USABLE_BYTE: Final = MIB
"""The table has 34 sectors; what begins at a whole MiB is aligned for every kind of disk."""
LOCKED_PASSWORD: Final = "!"  # noqa: S105 - shadow(5): no password matches it
UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_B64: Final = "[./0-9A-Za-z]"
# crypt(5): method -> (its whole form, the form in words)
HASHES: Final = {
    "$6$": (
        rf"\$6\$(?:rounds=[0-9]+\$)?[^$:\n]{{1,16}}\${_B64}{{86}}",
        "sha512crypt: `$6$`, `rounds=<number>$` or not, a salt of 1 to 16 characters, `$`, 86 characters",
    ),
    "$5$": (
        rf"\$5\$(?:rounds=[0-9]+\$)?[^$:\n]{{1,16}}\${_B64}{{43}}",
        "sha256crypt: `$5$`, `rounds=<number>$` or not, a salt of 1 to 16 characters, `$`, 43 characters",
    ),
    "$y$": (
        rf"\$y\${_B64}+\${_B64}{{1,86}}\${_B64}{{43}}",
        "yescrypt: `$y$`, parameters, `$`, a salt, `$`, 43 characters",
    ),
    "$2b$": (rf"\$2[abxy]\$[0-9]{{2}}\${_B64}{{53}}", "bcrypt: `$2b$`, two digits, `$`, 53 characters"),
    "$1$": (rf"\$1\$[^$:\n]{{1,8}}\${_B64}{{22}}", "md5crypt: `$1$`, a salt, `$`, 22 characters"),
}


def check(unlocked: Unlocked) -> list[Finding]:
    """Return the findings about a manifest that its schemas accept."""
    return [*_passwords(unlocked), *_disk(unlocked)]


def _passwords(unlocked: Unlocked) -> Iterator[Finding]:
    for path, stage in stages(unlocked.document, (USERS_STAGE,)):
        for name, user in stage.get("options", {}).get("users", {}).items():
            password = user.get("password")
            if password is not None and (problem := _hash_problem(password)):
                place = (*path, "options", "users", name, "password")
                expected, got = problem
                yield Finding(
                    "bad-password-hash",
                    place,
                    expected,
                    got,
                    Change(place, LOCKED_PASSWORD),
                    f"the account {name} stays without a password, which can be set later; no password is invented",
                )


def _hash_problem(text: str) -> tuple[str, str] | None:
    """Return (expected, got) for a text that no password matches by mistake; what was written is not repeated."""
    if text == "" or text[0] in "!*":
        return None
    method = next((key for key in HASHES if text.startswith(key[:2]) and text[: len(key)] == key), None)
    if method is None and re.match(r"\$2[abxy]\$", text):
        method = "$2b$"
    if method is None:
        return "a hash in the form of crypt(5), such as `$6$<salt>$<86 characters>`, or `!` for none", (
            "a text that is no hash (mkpasswd or `openssl passwd -6` makes one of a password)"
        )
    pattern, words = HASHES[method]
    if re.fullmatch(pattern, text):
        return None
    return words, f"a text of {len(text)} characters that ends with {len(text.rpartition('$')[2])} after the last `$`"


def _disk(unlocked: Unlocked) -> Iterator[Finding]:
    assembler = unlocked.document.get("assembler")
    if not assembler or (assembler.get("type") or assembler.get("name")) != DISK_ASSEMBLER:
        return
    options = assembler.get("options", {})
    partitions = options.get("partitions", [])
    if not any("mountpoint" in partition for partition in partitions):
        return
    size, free = parse_size(options["size"]), FIRST_USABLE_BYTE
    for index, partition in enumerate(partitions):
        path: Path = ("assembler", "options", "partitions", index)
        name, start = partition.get("name", str(index)), partition.get("start", free)
        if start % SECTOR_BYTES or start < free:
            first = -(-free // MIB) * MIB
            yield Finding(
                "bad-partition",
                (*path, "start"),
                f"a multiple of {SECTOR_BYTES} that is at least {free}, where the space before partition `{name}` ends",
                str(start),
                Change((*path, "start"), first),
            )
            start = first
        length = partition.get("size")
        if length is None:
            length = usable_bytes(size, start)
        if found := _length_finding(path, name, start, length, size):
            yield found
            length = found.change.value if found.change else 0
        free = start + length


def _length_finding(path: Path, name: str, start: int, length: int, disk: int) -> Finding | None:
    most = usable_bytes(disk, start)
    end = start + length
    if length % SECTOR_BYTES == 0 and end <= disk - GPT_BACKUP_BYTES:
        return None
    if most <= 0:
        return Finding(
            "bad-partition",
            (*path, "start"),
            f"a place on the disk, which has {disk} bytes",
            f"partition `{name}` begins at byte {start}",
        )
    if end > disk:
        got = f"{length}: partition `{name}` ends at byte {end}, {end - disk:,} bytes past its disk of {disk} bytes"
    elif length % SECTOR_BYTES:
        got = f"{length}, which is not a multiple of {SECTOR_BYTES}"
    else:
        got = f"{length}: partition `{name}` ends at byte {end}, inside the last MiB, where the backup table is"
    value = most if end > disk - GPT_BACKUP_BYTES else length // SECTOR_BYTES * SECTOR_BYTES
    expected = f"at most {most} bytes from byte {start} on, which leaves 1 MiB for the backup partition table"
    return Finding("bad-partition", (*path, "size"), expected, got, Change((*path, "size"), value))


def parse_size(value: Any) -> int:
    """Return bytes from a number, or from a text such as `10G`, which the schema has checked."""
    if isinstance(value, int):
        return value
    unit = value[-1] if value[-1] in UNITS else ""
    return int(value[: len(value) - len(unit)]) * UNITS[unit]
