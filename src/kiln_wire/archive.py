"""A ZIP archive as a verifier reads it: every entry stored as it is, in one place, under one plain name.

Reference: PKWARE's application note (sections 4.3.7, 4.3.12, 4.4). Python's zipfile reads the directory at the end;
everything in it that two programs could read differently is refused: names that stand twice or leave the archive,
links, compressed, encrypted or overlapping entries, and bytes that belong to none.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from kiln_wire.digest import Digest
from kiln_wire.files import MAX_ENTRIES, Entry, FileError

PREFIX: Final = b"#!/usr/bin/env python3\n"
_CHUNK_BYTES: Final = 1024 * 1024
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_END_MAGIC: Final = b"PK\x05\x06"
_END: Final = struct.Struct("<4s4H2LH")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_UTF8_NAMES: Final = 0x800
_VERSIONS: Final = (20, 45)  # 2.0, and 4.5 for entries that need 64-bit sizes
_UNIX: Final = 3
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = (stat.S_IFREG | 0o644) << 16
_BIG: Final = 0xFFFFFFFF
_MANY: Final = 0xFFFF


class ArchiveFiles:
    """The entries below *folder* of an archive (kiln_wire.files.Files). Raises FileError `malformed-archive`."""

    def __init__(self, path: Path, folder: str = "", *, on_bytes: Callable[[str, int], None] | None = None) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._on_bytes = on_bytes
        try:
            self._spans = self._read_directory(path)
        except BaseException:
            os.close(self._file)
            raise
        self._folder = folder
        self._digests: dict[str, Digest] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    def below(self, folder: str) -> ArchiveFiles:
        """Return the entries below another folder of the same open archive."""
        other = object.__new__(ArchiveFiles)
        other._file, other._on_bytes, other._spans, other._folder = self._file, self._on_bytes, self._spans, folder
        other._digests = self._digests
        return other

    def entries(self) -> tuple[Entry, ...]:
        """Return everything below the folder, sorted by name."""
        length = len(self._folder)
        return tuple(
            sorted(
                Entry(name[length:], size, True)
                for name, (_, size) in self._spans.items()
                if name.startswith(self._folder)
            )
        )

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return an entry's bytes. Raises FileError `missing`, `too-large` or `unreadable`."""
        start, size = self._span(name)
        if size > max_bytes:
            raise FileError(name, "too-large", f"has more than {max_bytes} bytes")
        data = self._pread(name, start, size)
        self._count(name, size)
        return data

    def digests(self, names: Iterable[str]) -> Mapping[str, Digest | FileError]:
        """Return the SHA-256 of each entry, or what was in the way."""
        wanted = list(names)
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            return dict(zip(wanted, pool.map(self._digest, wanted), strict=True))

    def _digest(self, name: str) -> Digest | FileError:
        known = self._digests.get(self._folder + name)
        if known is not None:
            return known
        state = hashlib.sha256()
        try:
            start, size = self._span(name)
            for at in range(start, start + size, _CHUNK_BYTES):
                piece = self._pread(name, at, min(_CHUNK_BYTES, start + size - at))
                state.update(piece)
                self._count(name, len(piece))
        except FileError as error:
            return error
        result = Digest("sha256", state.hexdigest())
        self._digests[self._folder + name] = result
        return result

    def _span(self, name: str) -> tuple[int, int]:
        try:
            return self._spans[self._folder + name]
        except KeyError:
            raise FileError(name, "missing", "is not in the archive") from None

    def _pread(self, name: str, start: int, size: int) -> bytes:
        pieces = []
        while size:
            piece = os.pread(self._file, size, start)
            if not piece:
                raise FileError(name, "unreadable", "the archive ends too early")
            pieces.append(piece)
            start, size = start + len(piece), size - len(piece)
        return b"".join(pieces)

    def _count(self, name: str, size: int) -> None:
        if self._on_bytes is not None:
            self._on_bytes(name, size)

    def _read_directory(self, path: Path) -> dict[str, tuple[int, int]]:
        try:
            with zipfile.ZipFile(path) as archive:
                infos, comment, directory = archive.infolist(), archive.comment, archive.start_dir
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise _malformed(str(path), f"not an archive: {error}") from None
        if comment or not 0 < len(infos) <= MAX_ENTRIES:
            raise _malformed(str(path), f"a comment, or no entries, or more than {MAX_ENTRIES}")
        self._check_end(path, len(infos))
        spans: dict[str, tuple[int, int]] = {}
        end = len(PREFIX)
        if os.pread(self._file, end, 0) != PREFIX:
            raise _malformed(str(path), "does not begin as a pack does")
        for info in sorted(infos, key=lambda item: item.header_offset):
            _check_entry(info)
            if info.filename in spans:
                raise _malformed(info.filename, "stands twice")
            if info.header_offset != end:
                raise _malformed(info.filename, "overlaps another entry, or bytes before it belong to none")
            start = self._data_start(info)
            spans[info.filename] = (start, info.file_size)
            end = start + info.file_size
        if end != directory:
            raise _malformed(str(path), "bytes before the directory belong to no entry")
        return spans

    def _check_end(self, path: Path, count: int) -> None:
        """Nothing follows the record that ends an archive, and it says what is there."""
        size = os.fstat(self._file).st_size
        data = os.pread(self._file, _END.size, size - _END.size)
        magic, disk, first_disk, here, total, _, _, comment_length = _END.unpack(data)
        if magic != _END_MAGIC or comment_length or disk or first_disk or {here, total} - {count, _MANY}:
            raise _malformed(str(path), "does not end as an archive of this many entries does")

    def _data_start(self, info: zipfile.ZipInfo) -> int:
        """Return where an entry's bytes begin; its own header must say what the directory says."""
        header = os.pread(self._file, _LOCAL.size, info.header_offset)
        if len(header) != _LOCAL.size:
            raise _malformed(info.filename, "has no header")
        magic, version, flags, method, time, date, crc, packed, size, name_length, extra_length = _LOCAL.unpack(header)
        stated = (flags, method, time, date, crc)
        listed = (info.flag_bits, info.compress_type, 0, 0x21, info.CRC)
        # the directory's version also depends on how far behind the entry lies, the header's does not
        if magic != _LOCAL_MAGIC or version not in _VERSIONS or stated != listed:
            raise _malformed(info.filename, "has a header that says something else than the directory")
        big = bool(extra_length)
        real = (info.compress_size, info.file_size)
        if (packed, size) != real and not (big and (packed, size) == (_BIG, _BIG)):
            raise _malformed(info.filename, "has another size in its header")
        name_at = info.header_offset + _LOCAL.size
        rest = os.pread(self._file, name_length + extra_length, name_at)
        extra = struct.pack("<HHQQ", 1, 16, info.file_size, info.compress_size) if big else b""
        if rest != info.filename.encode("utf-8") + extra:
            raise _malformed(info.filename, "has another name in its header")
        return int(name_at + name_length + extra_length)


def _check_entry(info: zipfile.ZipInfo) -> None:
    name = info.filename
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise _malformed(ascii(name), "is not a plain relative path")
    if name != info.orig_filename or info.comment:
        raise _malformed(ascii(info.orig_filename), "is not a plain relative path")
    if info.external_attr != _MODE or info.internal_attr or info.create_system != _UNIX or info.volume:
        raise _malformed(name, "is a link or a special file, or has other rights than 0644")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise _malformed(name, "is compressed")
    if info.flag_bits != (0 if name.isascii() else _UTF8_NAMES):
        raise _malformed(name, "is encrypted, or not stored plainly")
    if info.date_time != _TIME or {info.create_version, info.extract_version} - set(_VERSIONS) or info.reserved:
        raise _malformed(name, "has a time or a version that no pack has")


def _malformed(name: str, problem: str) -> FileError:
    return FileError(name, "malformed-archive", problem)
