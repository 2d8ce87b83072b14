"""A ZIP archive as a verifier reads it: every entry stored as it is, in one place, under one plain name.

Reference: PKWARE's application note (sections 4.3.7, 4.3.12, 4.4). Python's zipfile reads the directory at the end;
everything in it that two programs could read differently is refused: names that stand twice or leave the archive,
links, compressed, encrypted or overlapping entries, and bytes that belong to none.
"""

from __future__ import annotations

import hashlib
import os
import stat
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
_LOCAL_HEADER_BYTES: Final = 30
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_ENCRYPTED: Final = 0x1


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
        state = hashlib.sha256()
        try:
            start, size = self._span(name)
            for at in range(start, start + size, _CHUNK_BYTES):
                piece = self._pread(name, at, min(_CHUNK_BYTES, start + size - at))
                state.update(piece)
                self._count(name, len(piece))
        except FileError as error:
            return error
        return Digest("sha256", state.hexdigest())

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

    def _data_start(self, info: zipfile.ZipInfo) -> int:
        header = os.pread(self._file, _LOCAL_HEADER_BYTES, info.header_offset)
        if len(header) != _LOCAL_HEADER_BYTES or not header.startswith(_LOCAL_MAGIC):
            raise _malformed(info.filename, "has no header")
        name_length, extra_length = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        name_at = info.header_offset + _LOCAL_HEADER_BYTES
        if os.pread(self._file, name_length, name_at) != info.filename.encode("utf-8"):
            raise _malformed(info.filename, "has another name in its header")
        return name_at + name_length + extra_length


def _check_entry(info: zipfile.ZipInfo) -> None:
    name = info.filename
    parts = name.split("/")
    if not name.isprintable() or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise _malformed(ascii(name), "is not a plain relative path")
    if name != info.orig_filename:
        raise _malformed(ascii(info.orig_filename), "is not a plain relative path")
    mode = info.external_attr >> 16
    if mode and not stat.S_ISREG(mode):
        raise _malformed(name, "is a link or a special file")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise _malformed(name, "is compressed")
    if info.flag_bits & _ENCRYPTED:
        raise _malformed(name, "is encrypted")


def _malformed(name: str, problem: str) -> FileError:
    return FileError(name, "malformed-archive", problem)
