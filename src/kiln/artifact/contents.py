"""The files inside of file-system images, by the tools of each: SquashFS, ext4, FAT. Nothing is mounted."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux.process import run
from kiln_wire.digest import Digest

FileSystem = Literal["squashfs", "ext4", "fat"]
UNPACK_SECONDS: Final = 1800.0
_PATHS_PER_RUN: Final = 500
_EXT4_MAGIC_AT: Final = 0x438  # superblock at 1024, s_magic at 56


def file_system(image: Path) -> FileSystem | None:
    """Return which file system an image holds, as far as it is one that can be looked into."""
    with image.open("rb") as file:
        head = file.read(2048)
    if head.startswith(b"hsqs"):
        return "squashfs"
    if head[_EXT4_MAGIC_AT : _EXT4_MAGIC_AT + 2] == b"\x53\xef":
        return "ext4"
    if head[510:512] == b"\x55\xaa" and (head[54:59] in (b"FAT12", b"FAT16") or head[82:87] == b"FAT32"):
        return "fat"
    return None


def unpack(image: Path, kind: FileSystem, destination: Path, paths: Sequence[str] = ()) -> None:
    """Unpack an image into a directory that must not exist; of SquashFS only *paths*, if given.

    Owners and modes are not kept, and devices are left out. Raises KilnError(HOST) `missing-tool`, `timeout`, or
    `program-failed` where nothing at all came out.
    """
    destination.mkdir()
    if kind == "squashfs":
        # A list that is too long for a command line is taken in pieces.
        pieces = [paths[start : start + _PATHS_PER_RUN] for start in range(0, len(paths), _PATHS_PER_RUN)] or [()]
        for piece in pieces:
            names = [path.lstrip("/") for path in piece]
            argv = ["unsquashfs", "-force", "-no-xattrs", "-no-progress", "-quiet", "-dest", str(destination)]
            # It ends with 2 where it could not make a device, which is fine here.
            run([*argv, str(image), *names], timeout_seconds=UNPACK_SECONDS, check=False)
    elif kind == "ext4":
        run(["debugfs", "-R", f"rdump / {destination}", str(image)], timeout_seconds=UNPACK_SECONDS)
    else:
        run(["mcopy", "-s", "-n", "-i", str(image), "::/", str(destination)], timeout_seconds=UNPACK_SECONDS)
    if not any(destination.iterdir()):
        raise KilnError(
            Domain.HOST,
            "program-failed",
            f"nothing could be unpacked from {image.name}",
            exit_status=ExitStatus.INFRASTRUCTURE,
        )


def digests(directory: Path) -> dict[str, str]:
    """Return path -> what it is: the SHA-256 of a file, the target of a link, `directory`."""
    return dict(_digests(directory))


def _digests(directory: Path) -> Iterator[tuple[str, str]]:
    for root, folders, names in os.walk(directory):
        for name in sorted([*folders, *names]):
            path = Path(root, name)
            relative = "/" + os.fsencode(path.relative_to(directory)).decode("utf-8", "backslashreplace")
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                yield relative, f"link to {path.readlink()}"
            elif stat.S_ISREG(mode):
                yield relative, Digest.of_file(path).hex
            else:
                yield relative, "directory" if stat.S_ISDIR(mode) else "special"
