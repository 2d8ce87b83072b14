"""Writing a layer as a stream, or only computing the digest that the stream would have."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from kiln.engine.objects.content import paths
from kiln.engine.objects.stream.entries import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    FILE,
    HEADER,
    KINDS,
    MAGIC,
    NAME,
    SEGMENT,
    Entry,
    FileDigest,
    LayerDigest,
    is_whiteout,
    read_attributes,
)


def write_layer(root: Path, write: Callable[[bytes], object]) -> str:
    """Write the layer in the directory *root*, piece by piece; returns its digest (hexadecimal).

    Raises OSError, KilnError(STORE, "unstreamable-layer"), and what *write* raises.
    """
    digest = LayerDigest()
    write(MAGIC)
    for full, entry in entries(root):
        header = entry.encode()
        write(HEADER.pack(len(header)) + header)
        digest.add(header, _write_file(full, entry, write) if entry.kind == FILE else None)
    write(HEADER.pack(0) + digest.finish())
    return digest.finish().hex()


def layer_digest(root: Path) -> str:
    """Return the digest (hexadecimal) of the layer in the directory *root*. Raises as `write_layer` does."""
    return write_layer(root, lambda data: None)


def entries(root: Path) -> Iterator[tuple[str, Entry]]:
    """Yield the entries of a layer with their full paths, as they stand in a stream."""
    seen: dict[tuple[int, int], str] = {}
    yield str(root), _entry(str(root), ".", seen)
    for path in paths(f"{root}/", ""):
        full = f"{root}/{path}"
        yield full, _entry(full, path, seen)


def _entry(full: str, path: str, seen: dict[tuple[int, int], str]) -> Entry:
    status = os.lstat(full)
    kind = KINDS[stat.S_IFMT(status.st_mode)]
    more: int | str | tuple[int, int] | None = None
    match kind:
        case "file":
            more = status.st_size
        case "link":
            more = os.readlink(full)  # noqa: PTH115 - the text as it is, not as a path
        case "char" | "block":
            more = os.major(status.st_rdev), os.minor(status.st_rdev)
    if status.st_nlink > 1 and kind != "dir" and not is_whiteout(kind, more):
        first = seen.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            return Entry(path, NAME, more=first)
    mode = stat.S_IMODE(status.st_mode)
    return Entry(path, kind, mode, status.st_uid, status.st_gid, status.st_mtime_ns, read_attributes(full), more)


def _write_file(full: str, entry: Entry, write: Callable[[bytes], object]) -> tuple[str, str]:
    digest = FileDigest()
    size = entry.more
    assert isinstance(size, int)  # noqa: S101 - every file's is
    if size:
        descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            for offset, length in _extents(descriptor, size):
                data = os.pread(descriptor, length, offset)
                if len(data) != length:
                    raise OSError(errno.EIO, "the file became shorter while it was read", full)
                write(SEGMENT.pack(offset, length))
                write(data)
                digest.update(offset, data)
        finally:
            os.close(descriptor)
    write(SEGMENT.pack(size, 0))
    return digest.finish()


def _extents(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield offset and length of the pieces of a file that are not holes, in whole blocks."""
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # nothing but a hole is left
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        start = max(position, start - start % BLOCK_BYTES)
        end = min(size, end + -end % BLOCK_BYTES)
        for offset in range(start, end, CHUNK_BYTES):
            yield offset, min(CHUNK_BYTES, end - offset)
        position = end
