"""Making a layer from a stream that may come from anybody: nothing is made outside of the new directory.

Every file is made by a name without a slash in a directory that is held open and that this stream made itself; no path
is ever looked up, so no symbolic link is followed. The order of the entries is checked, which makes a name unique.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kiln.engine.objects.stream.entries import (
    BLOCK_BYTES,
    CHUNK_BYTES,
    DIGEST_BYTES,
    DIRECTORY,
    FILE,
    HEADER,
    LINK,
    MAGIC,
    MAX_HEADER_BYTES,
    NAME,
    SEGMENT,
    TYPES,
    Entry,
    FileDigest,
    LayerDigest,
    damaged,
    is_kept,
)

NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
REDIRECT: Final = "trusted.overlay.redirect"
MAX_ID: Final = 2**32 - 2
"""The highest means "leave it as it is" to chown(2)."""
MAX_MAJOR: Final = 2**12 - 1
MAX_MINOR: Final = 2**20 - 1
MAX_FILE_BYTES: Final = 2**63 - 1
MAX_TIME_NS: Final = 2**63 - 1
REFUSED_BY_THE_KERNEL: Final = (errno.EINVAL, errno.ENAMETOOLONG, errno.EFBIG, errno.E2BIG, errno.ERANGE)


def read_layer(read: Callable[[int], bytes], destination: Path, expected: str | None = None) -> str:
    """Make the layer of a stream in the new directory *destination*; returns its digest (hexadecimal).

    *read* gives as many bytes as it is asked for, fewer only at the end. *expected* is the digest that it must have.
    After an error the directory holds a part, which nobody may use.
    Raises KilnError(STORE, "damaged-stream"), OSError, and what *read* raises.
    """
    source = _Source(read)
    if source.take(len(MAGIC)) != MAGIC:
        raise damaged("it does not begin as one")
    destination.mkdir(mode=0o700)
    writer = _Layer(os.open(destination, OPEN_DIRECTORY))
    digest = LayerDigest()
    try:
        while length := HEADER.unpack(source.take(HEADER.size))[0]:
            if length > MAX_HEADER_BYTES:
                raise damaged(f"a header of {length} bytes")
            header = source.take(length)
            entry = Entry.decode(header)
            digest.add(header, writer.add(entry, source))
        writer.finish()
    except OSError as error:
        if error.errno in REFUSED_BY_THE_KERNEL:
            raise damaged(f"the kernel refuses what it says: {error}") from None
        raise
    finally:
        writer.close()
    found = digest.finish()
    if source.take(DIGEST_BYTES) != found:
        raise damaged("its content does not have the digest that it states")
    if expected is not None and found.hex() != expected:
        raise damaged(f"it has the digest {found.hex()} instead of {expected}")
    return found.hex()


@dataclass(frozen=True, slots=True)
class _Source:
    read: Callable[[int], bytes]

    def take(self, count: int) -> bytes:
        data = self.read(count)
        if len(data) != count:
            raise damaged("it ends too early")
        return data


@dataclass(slots=True)
class _Level:
    """A directory that is being filled: its attributes are set when it is full. *last* is the newest name in it."""

    entry: Entry
    name: str
    last: bytes = b""


@dataclass(slots=True)
class _Layer:
    """Makes entries below an open directory, of which it takes possession."""

    root: int
    current: int = field(init=False)
    levels: list[_Level] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.current = os.dup(self.root)

    def close(self) -> None:
        os.close(self.current)
        os.close(self.root)

    def add(self, entry: Entry, source: _Source) -> tuple[str, str] | None:
        """Make an entry; returns what `FileDigest` says of a regular file."""
        if not self.levels:
            if entry.path != "." or entry.kind != DIRECTORY:
                raise damaged("it does not begin with a directory")
            self.levels.append(_Level(entry, "."))
            return None
        name = self._descend(entry.path)
        _check(entry)
        if entry.kind == NAME:
            self._link(str(entry.more), name)
            return None
        if entry.kind == DIRECTORY:
            os.mkdir(name, 0o700, dir_fd=self.current)
            inside = os.open(name, OPEN_DIRECTORY, dir_fd=self.current)
            os.close(self.current)
            self.current = inside
            self.levels.append(_Level(entry, name))
            return None
        content = None
        if entry.kind == FILE:
            content = self._file(entry, name, source)
        elif entry.kind == LINK:
            os.symlink(str(entry.more), name, dir_fd=self.current)
        else:
            number = os.makedev(*entry.more) if isinstance(entry.more, tuple) else 0
            os.mknod(name, TYPES[entry.kind] | 0o600, number, dir_fd=self.current)
        _set_attributes(self.current, name, entry)
        return content

    def finish(self) -> None:
        """Complete every directory."""
        if not self.levels:
            raise damaged("it has no entries")
        while len(self.levels) > 1:
            self._leave()
        _set_attributes(self.root, ".", self.levels[0].entry)

    def _descend(self, path: str) -> str:
        """Leave the directories in which *path* is not, check its order, and return its name."""
        *parents, name = path.split("/")
        if name in ("", ".", "..") or "\0" in path or len(parents) >= len(self.levels):
            raise damaged(f"{path!r} is not the path of an entry here")
        while len(self.levels) > len(parents) + 1:
            self._leave()
        if [level.name for level in self.levels[1:]] != parents:
            raise damaged(f"{path!r} is in a directory that does not stand before it")
        level, spelled = self.levels[-1], os.fsencode(name)
        if spelled <= level.last:
            raise damaged(f"{path!r} is out of order")
        level.last = spelled
        return name

    def _leave(self) -> None:
        level = self.levels.pop()
        above = os.open("..", OPEN_DIRECTORY, dir_fd=self.current)
        os.close(self.current)
        self.current = above
        _set_attributes(above, level.name, level.entry)

    def _file(self, entry: Entry, name: str, source: _Source) -> tuple[str, str]:
        size = entry.more
        assert isinstance(size, int)  # noqa: S101 - `Entry.decode` has seen to it
        digest = FileDigest()
        descriptor = os.open(name, NEW_FILE, 0o600, dir_fd=self.current)
        try:
            os.ftruncate(descriptor, size)
            position = 0
            while True:
                offset, length = SEGMENT.unpack(source.take(SEGMENT.size))
                if length == 0:
                    if offset != size:
                        raise damaged(f"{entry.path!r} ends at another place than its size says")
                    return digest.finish()
                end = offset + length
                aligned = offset % BLOCK_BYTES == 0 and (length % BLOCK_BYTES == 0 or end == size)
                if offset < position or end > size or length > CHUNK_BYTES or not aligned:
                    raise damaged(f"{entry.path!r} has a piece at a wrong place")
                data = source.take(length)
                digest.update(offset, data)
                written = 0
                while written < length:
                    written += os.pwrite(descriptor, memoryview(data)[written:], offset + written)
                position = end
        finally:
            os.close(descriptor)

    def _link(self, first: str, name: str) -> None:
        """Make another name of a file that this stream has made."""
        *parents, old = first.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in (*parents, old)):
            raise damaged(f"{first!r} is not the path of an entry")
        directory = os.dup(self.root)
        try:
            for part in parents:
                inside = os.open(part, OPEN_DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = inside
            if stat.S_ISDIR(os.stat(old, dir_fd=directory, follow_symlinks=False).st_mode):
                raise damaged(f"{first!r} is a directory and has no second name")
            os.link(old, name, src_dir_fd=directory, dst_dir_fd=self.current, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            raise damaged(f"{first!r} does not stand before its second name") from None
        except OSError as error:
            raise damaged(f"{first!r} cannot have a second name: {error}") from None
        finally:
            os.close(directory)


def _check(entry: Entry) -> None:
    """Refuse what no layer has."""
    if entry.kind == NAME:
        return
    owner = 0 <= entry.uid <= MAX_ID and 0 <= entry.gid <= MAX_ID
    if not owner or not 0 <= entry.mode <= 0o7777 or not -MAX_TIME_NS <= entry.mtime_ns <= MAX_TIME_NS:
        raise damaged(f"{entry.path!r} has an impossible owner, mode or time")
    last = ""
    for name, value in entry.attributes:
        steps = value.split(b"/") if name == REDIRECT else []
        if name <= last or "\0" in name or not is_kept(name) or b".." in steps:
            raise damaged(f"{entry.path!r} has the attribute {name!r}, which no layer has")
        last = name
    if entry.kind == FILE and isinstance(entry.more, int) and entry.more > MAX_FILE_BYTES:
        raise damaged(f"{entry.path!r} has an impossible size")
    if isinstance(entry.more, tuple) and not (0 <= entry.more[0] <= MAX_MAJOR and 0 <= entry.more[1] <= MAX_MINOR):
        raise damaged(f"{entry.path!r} has an impossible number")
    if isinstance(entry.more, str) and (not entry.more or "\0" in entry.more):
        raise damaged(f"{entry.path!r} is a link without a text")


def _set_attributes(directory: int, name: str, entry: Entry) -> None:
    """Owner first: changing it takes away set-user-id bits and capabilities."""
    os.chown(name, entry.uid, entry.gid, dir_fd=directory, follow_symlinks=False)
    if entry.kind != LINK:
        os.chmod(name, entry.mode, dir_fd=directory)
    path = f"/proc/thread-self/fd/{directory}/{name}"
    for attribute, value in entry.attributes:
        os.setxattr(path, attribute, value, follow_symlinks=False)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory, follow_symlinks=False)
