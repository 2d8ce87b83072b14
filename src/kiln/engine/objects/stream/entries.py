"""What a stream says about one file, and the digest over all of it."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
from dataclasses import dataclass
from typing import Any, Final

from kiln.engine.objects.copying import OVERLAY_ATTRIBUTES
from kiln.errors import Domain, ExitStatus, KilnError

MAGIC: Final = b"kiln-layer/1\n"
HEADER: Final = struct.Struct(">I")
SEGMENT: Final = struct.Struct(">QI")
RUN: Final = struct.Struct(">QQ")
BLOCK_BYTES: Final = 4096
"""Holes are not finer than this; a page of every architecture is a multiple of it."""
CHUNK_BYTES: Final = 1024 * 1024
"""The longest segment."""
MAX_HEADER_BYTES: Final = 32 * 1024 * 1024
"""A path of 4 KiB and many attributes of 64 KiB (XATTR_SIZE_MAX), in hexadecimal digits."""
DIGEST_BYTES: Final = 32

FILE: Final = "file"
DIRECTORY: Final = "dir"
LINK: Final = "link"
CHARACTER: Final = "char"
BLOCK: Final = "block"
FIFO: Final = "fifo"
SOCKET: Final = "socket"
NAME: Final = "name"
TYPES: Final = {
    FILE: stat.S_IFREG,
    DIRECTORY: stat.S_IFDIR,
    LINK: stat.S_IFLNK,
    CHARACTER: stat.S_IFCHR,
    BLOCK: stat.S_IFBLK,
    FIFO: stat.S_IFIFO,
    SOCKET: stat.S_IFSOCK,
}
KINDS: Final = {type_: kind for kind, type_ in TYPES.items()}

KEPT_OVERLAY: Final = frozenset({f"{OVERLAY_ATTRIBUTES}{name}" for name in ("opaque", "redirect", "whiteout")})
"""What makes a layer mean what it means. The others are the kernel's notes about the disk that it was made on."""
NESTED_OVERLAY: Final = f"{OVERLAY_ATTRIBUTES}overlay."
"""How an overlay stores attributes of an overlay inside it (Linux 6.7)."""
WITHOUT_DATA: Final = f"{OVERLAY_ATTRIBUTES}metacopy"
_ZEROS: Final = bytes(BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class Entry:
    """A header. *more* is the size of a file, the text of a link, the numbers of a device, a first path; else None."""

    path: str
    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    attributes: tuple[tuple[str, bytes], ...] = ()
    more: int | str | tuple[int, int] | None = None

    def encode(self) -> bytes:
        """Return the header's bytes."""
        line: list[object] = [self.path, self.kind]
        if self.kind != NAME:
            attributes = [[name, value.hex()] for name, value in self.attributes]
            line += [self.mode, self.uid, self.gid, self.mtime_ns, attributes]
        return json.dumps([*line, self.more], separators=(",", ":")).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> Entry:
        """Read a header; what it says is of the right types and in the only possible spelling.

        Raises KilnError(STORE, "damaged-stream").
        """
        try:
            entry = cls._read(json.loads(data))
            if entry.encode() != data:
                raise ValueError("it is spelled in another way")
        except (ValueError, TypeError, RecursionError) as error:
            raise damaged(f"a header cannot be read: {error}") from None
        return entry

    @classmethod
    def _read(cls, line: Any) -> Entry:
        match line:
            case [str(path), "name", str(first)]:
                return cls(_text(path), NAME, more=_text(first))
            case [str(path), str(kind), *numbers, list(attributes), more] if len(numbers) == 4:
                mode, uid, gid, mtime = map(_number, numbers)
                pairs = tuple((_text(name), bytes.fromhex(value)) for name, value in attributes)
                return cls(_text(path), kind, mode, uid, gid, mtime, pairs, _more(kind, more))
        raise ValueError("it has another form")


class FileDigest:
    """Takes the data of a file, in order and at multiples of `BLOCK_BYTES`; zeros and what is left out are the same."""

    def __init__(self) -> None:
        self._data = hashlib.sha256()
        self._map = hashlib.sha256()
        self._start = self._end = 0

    def update(self, offset: int, data: bytes) -> None:
        """Take a piece; only the end of the file may be less than a whole block."""
        view = memoryview(data)
        first = None
        for position in range(0, len(data), BLOCK_BYTES):
            if not data.startswith(_ZEROS[: len(data) - position], position):
                if first is None:
                    first = position
            elif first is not None:
                self._run(offset + first, view[first:position])
                first = None
        if first is not None:
            self._run(offset + first, view[first:])

    def finish(self) -> tuple[str, str]:
        """Return the digests of the data and of where it is."""
        self._close()
        return self._data.hexdigest(), self._map.hexdigest()

    def _run(self, offset: int, data: memoryview) -> None:
        if offset != self._end or self._start == self._end:
            self._close()
            self._start = offset
        self._end = offset + len(data)
        self._data.update(data)

    def _close(self) -> None:
        if self._end > self._start:
            self._map.update(RUN.pack(self._start, self._end - self._start))
        self._start = self._end


class LayerDigest:
    """Takes the entries of a layer in their order."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def add(self, header: bytes, content: tuple[str, str] | None = None) -> None:
        """Take an entry; *content* is what `FileDigest` says of a regular file."""
        self._state.update(header if content is None else b'%s,"%s","%s"]' % (header[:-1], *map(str.encode, content)))
        self._state.update(b"\n")

    def finish(self) -> bytes:
        """Return the digest."""
        return self._state.digest()


def read_attributes(full: str) -> tuple[tuple[str, bytes], ...]:
    """Return the extended attributes of a file that a stream keeps, sorted by name.

    Raises OSError, KilnError(STORE, "unstreamable-layer").
    """
    names = os.listxattr(full, follow_symlinks=False)
    if not names:
        return ()
    if WITHOUT_DATA in names:
        raise KilnError(
            Domain.STORE,
            "unstreamable-layer",
            f"{full} is only a reference to a file of a lower layer",
            hint="this kernel copies attributes without data (metacopy); switch it off: "
            "echo N > /sys/module/overlay/parameters/metacopy",
            exit_status=ExitStatus.INFRASTRUCTURE,
        )
    return tuple((name, os.getxattr(full, name, follow_symlinks=False)) for name in sorted(names) if is_kept(name))


def is_kept(name: str) -> bool:
    """Whether an extended attribute belongs to what a layer means."""
    return not name.startswith(OVERLAY_ATTRIBUTES) or name in KEPT_OVERLAY or name.startswith(NESTED_OVERLAY)


def is_whiteout(kind: str, more: object) -> bool:
    """Whether an entry hides a file of a lower layer; all whiteouts of a layer may be names of one node."""
    return kind == CHARACTER and more == (0, 0)


def damaged(problem: str) -> KilnError:
    """Return the refusal of a stream."""
    return KilnError(
        Domain.STORE,
        "damaged-stream",
        f"the stream of a layer is not complete and unchanged: {problem}",
        hint="nothing of it was kept; have it sent or exported again",
        exit_status=ExitStatus.INFRASTRUCTURE,
        retriable=True,
    )


def _more(kind: str, more: Any) -> int | str | tuple[int, int] | None:
    match kind, more:
        case "file", int(size) if size >= 0:
            return _number(size)
        case "link", str(text):
            return _text(text)
        case (("char" | "block"), [major, minor]):
            return _number(major), _number(minor)
        case (("dir" | "fifo" | "socket"), None):
            return None
    raise ValueError(f"{more!r} does not fit {kind!r}")


def _number(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _text(value: Any) -> str:
    """Return a text that stands for the bytes of a file's name in the only possible way."""
    if not isinstance(value, str) or os.fsdecode(os.fsencode(value)) != value:
        raise ValueError(f"{value!r} is not how the name of a file is spelled")
    return value
