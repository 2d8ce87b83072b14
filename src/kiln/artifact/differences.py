"""Two outputs of one build that are not equal: which partitions, which files, and why."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from kiln.artifact.causes import Cause, cause_of
from kiln.artifact.contents import FileSystem, digests, file_system, unpack
from kiln.artifact.gpt import DiskTable, Partition, read_gpt
from kiln.errors import KilnError
from kiln.linux.process import find_program, run, tail
from kiln_wire.digest import Digest

MAX_EXPLAINED: Final = 200
"""Files that are looked into; more are only named."""
MAX_FILE_BYTES: Final = 64 * 1024 * 1024
CONVERT_SECONDS: Final = 1800.0
DIFFOSCOPE_SECONDS: Final = 120.0
DIFFOSCOPE_LINES: Final = 30
_COPY_BYTES: Final = 4 * 1024 * 1024
_SUPERBLOCK_TIMES: Final = ("created", "time", "checked")

Kind = Literal["changed", "missing", "added"]


@dataclass(frozen=True, slots=True)
class FileDifference:
    """A file, a partition or a part of a disk that differs, and why."""

    output: str
    """Name of the artifact that it is in."""
    path: str
    kind: Kind
    cause: Cause
    detail: str


def explain_squashfs(name: str, before: Path, after: Path, work: Path) -> list[FileDifference]:
    """Return the files in which two SquashFS images differ. *work* must be an empty directory."""
    return list(_trees(name, "", before, after, "squashfs", work)) or [
        FileDifference(
            name, "", "changed", "metadata", "equal files: owners, modes, times or the order of blocks differ"
        )
    ]


def explain_file(name: str, before: Path, after: Path, work: Path) -> list[FileDifference]:
    """Return why two outputs differ that are not taken apart here: lists, archives. *work* is not needed."""
    del work
    cause, detail = _explained([before, after], "", "")
    return [FileDifference(name, "", "changed", cause, detail)]


def explain_disk(name: str, before: Path, after: Path, work: Path) -> list[FileDifference]:
    """Return the partitions and files in which two disk images differ, raw or qcow2."""
    raws = []
    for side, image in (("before", before), ("after", after)):
        raw = work / f"{side}.raw"
        run(["qemu-img", "convert", "-O", "raw", str(image), str(raw)], timeout_seconds=CONVERT_SECONDS)
        raws.append(raw)
    tables = [read_gpt(raw) for raw in raws]
    old, new = tables
    if old is None or new is None:
        return [FileDifference(name, "", "changed", "unknown", "at least one of the disks has no partition table")]
    found = list(_tables(name, old, new))
    for first, second in zip(old.partitions, new.partitions, strict=False):
        found += _partition(name, first, second, raws, work)
    return found or [
        FileDifference(name, "", "changed", "metadata", "equal partitions: the container's own data differ")
    ]


def _tables(name: str, old: DiskTable, new: DiskTable) -> Iterator[FileDifference]:
    if old.id != new.id:
        yield FileDifference(name, "partition table", "changed", "random", f"disk id {old.id} -> {new.id}")
    for first, second in zip(old.partitions, new.partitions, strict=False):
        if first.id != second.id:
            detail = f"partition id {first.id} -> {second.id}"
            yield FileDifference(name, f"partition {first.number}", "changed", "random", detail)
    if len(old.partitions) != len(new.partitions):
        detail = f"{len(old.partitions)} -> {len(new.partitions)} partitions"
        yield FileDifference(name, "partition table", "changed", "unknown", detail)


def _partition(name: str, old: Partition, new: Partition, raws: list[Path], work: Path) -> list[FileDifference]:
    parts = []
    for side, partition, raw in (("before", old, raws[0]), ("after", new, raws[1])):
        part = work / f"{side}-{partition.number}.img"
        _cut(raw, part, partition)
        parts.append(part)
    label = f"partition {old.number}" + (f" ({old.name})" if old.name else "")
    try:
        if Digest.of_file(parts[0]) == Digest.of_file(parts[1]):
            return []
        kind = file_system(parts[0])
        if kind is None or kind != file_system(parts[1]):
            return [FileDifference(name, label, "changed", "unknown", "no file system that can be looked into")]
        files = list(_trees(name, f"{label}: ", parts[0], parts[1], kind, work))
        return files or [_metadata(name, label, parts, kind)]
    finally:
        for part in parts:
            part.unlink(missing_ok=True)


def _metadata(name: str, label: str, parts: list[Path], kind: FileSystem) -> FileDifference:
    """Say what differs beside the files; of ext4 the superblock tells."""
    if kind == "ext4":
        heads = [run(["dumpe2fs", "-h", str(part)], check=False).stdout.decode("utf-8", "replace") for part in parts]
        lines = [
            (first, second)
            for first, second in zip(heads[0].splitlines(), heads[1].splitlines(), strict=False)
            if first != second and "hecksum" not in first
        ]
        if lines:
            first, second = lines[0]
            field = first.partition(":")[0]
            cause: Cause = "time" if any(word in field for word in _SUPERBLOCK_TIMES) else "random"
            return FileDifference(
                name, label, "changed", cause, f"{first.strip()} -> {second.partition(':')[2].strip()}"
            )
    detail = "equal files: owners, modes, times or their places in the file system differ"
    return FileDifference(name, label, "changed", "metadata", detail)


def _cut(raw: Path, destination: Path, partition: Partition) -> None:
    """Copy a partition out of a disk, with holes where it is empty."""
    with raw.open("rb") as source, destination.open("wb") as target:
        source.seek(partition.start)
        left = partition.size_bytes
        while left:
            piece = source.read(min(_COPY_BYTES, left))
            if not piece:
                break
            left -= len(piece)
            if piece.count(0) == len(piece):
                target.seek(len(piece), 1)
            else:
                target.write(piece)
        target.truncate(partition.size_bytes)


def _trees(
    output: str, prefix: str, before: Path, after: Path, kind: FileSystem, work: Path
) -> Iterator[FileDifference]:
    with tempfile.TemporaryDirectory(prefix="files-", dir=work) as temporary:
        roots = (Path(temporary, "before"), Path(temporary, "after"))
        for image, root in zip((before, after), roots, strict=True):
            unpack(image, kind, root)
        sides: tuple[Mapping[str, str], Mapping[str, str]] = (digests(roots[0]), digests(roots[1]))
        explained = 0
        for path in sorted(sides[0].keys() | sides[1].keys()):
            old, new = sides[0].get(path), sides[1].get(path)
            if old == new:
                continue
            if old is None or new is None:
                found: Kind = "added" if old is None else "missing"
                where = "rebuilt" if old is None else "original"
                yield FileDifference(output, prefix + path, found, "unknown", f"only in the {where} one")
                continue
            explained += 1
            cause: Cause = "unknown"
            detail = f"{old} -> {new}"
            if explained <= MAX_EXPLAINED:
                cause, detail = _explained([root / path.lstrip("/") for root in roots], old, new)
            yield FileDifference(output, prefix + path, "changed", cause, detail)


def _explained(files: list[Path], old: str, new: str) -> tuple[Cause, str]:
    if any(file.is_symlink() or not file.is_file() for file in files):
        return "unknown", f"{old} -> {new}"
    data = []
    for file in files:
        with file.open("rb") as opened:
            data.append(opened.read(MAX_FILE_BYTES))
    cause, detail = cause_of(data[0], data[1])
    deeper = _diffoscope(files[0], files[1])
    return cause, f"{detail}\n{deeper}" if deeper else detail


def _diffoscope(before: Path, after: Path) -> str:
    """Return what diffoscope says, where it is installed; our own words are enough where it is not."""
    try:
        find_program("diffoscope")
        done = run(
            ["diffoscope", "--text", "-", str(before), str(after)], timeout_seconds=DIFFOSCOPE_SECONDS, check=False
        )
    except KilnError:
        return ""
    return tail(done.stdout, DIFFOSCOPE_LINES)
