"""Read-only access to the files of one directory, safe against links and against changes of names meanwhile.

Every file is opened below the directory's own descriptor, component by component and without following links, and
read once: the digest of a document is that of the very bytes that were parsed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from kiln_wire.digest import Digest

MAX_ENTRIES: Final = 10_000
_MAX_DIRECTORY_DEPTH: Final = 8
_CHUNK_BYTES: Final = 1024 * 1024
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class FileError(Exception):
    """A file that can't be read as it should be; *reason* is a stable kebab-case word."""

    def __init__(self, name: str, reason: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.reason = reason
        self.problem = problem


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A name below the directory, with `/` between its parts. *regular* is false for links, devices and the like."""

    name: str
    size_bytes: int
    regular: bool


class Files(Protocol):
    """What a verifier needs of a directory, an archive or a registry's answer."""

    def entries(self) -> tuple[Entry, ...]:
        """Return everything that is no directory, sorted. Raises FileError."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return a file's bytes. Raises FileError."""

    def digests(self, names: Iterable[str]) -> Mapping[str, Digest | FileError]:
        """Return the SHA-256 of each file, or what was in the way."""


class DirectoryFiles:
    """The files of a directory of the file system. *on_bytes* gets (name, bytes hashed since the last call),
    from any thread."""

    def __init__(
        self, path: Path, *, on_bytes: Callable[[str, int], None] | None = None, threads: int | None = None
    ) -> None:
        self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._on_bytes = on_bytes
        self._threads = threads or os.cpu_count() or 1
        self._read: dict[str, Digest] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._root)

    def entries(self) -> tuple[Entry, ...]:
        """Return everything below the directory that is no directory, sorted by name.

        Raises FileError `too-many-files`, `too-deep` or `unreadable`.
        """
        found: list[Entry] = []
        try:
            self._scan(self._root, "", 0, found)
        except OSError as error:
            raise FileError(str(error.filename or "."), "unreadable", str(error.strerror)) from error
        return tuple(sorted(found))

    def _scan(self, descriptor: int, prefix: str, depth: int, found: list[Entry]) -> None:
        if depth > _MAX_DIRECTORY_DEPTH:
            raise FileError(prefix, "too-deep", f"directories are nested deeper than {_MAX_DIRECTORY_DEPTH}")
        with os.scandir(descriptor) as scan:
            for entry in scan:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    child = os.open(entry.name, _FLAGS | os.O_DIRECTORY, dir_fd=descriptor)
                    try:
                        self._scan(child, name + "/", depth + 1, found)
                    finally:
                        os.close(child)
                    continue
                status = entry.stat(follow_symlinks=False)
                found.append(Entry(name, status.st_size, stat.S_ISREG(status.st_mode)))
                if len(found) > MAX_ENTRIES:
                    raise FileError(prefix or ".", "too-many-files", f"there are more than {MAX_ENTRIES} files")

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the bytes of a file. Raises FileError `missing`, `not-a-regular-file`, `unreadable`, `too-large`."""
        with self._open(name) as descriptor:
            pieces, left = [], max_bytes + 1
            while left and (piece := self._piece(name, descriptor, min(left, _CHUNK_BYTES))):
                pieces.append(piece)
                left -= len(piece)
        if not left:
            raise FileError(name, "too-large", f"has more than {max_bytes} bytes")
        data = b"".join(pieces)
        self._read[name] = Digest.of(data)
        self._count(name, len(data))
        return data

    def digests(self, names: Iterable[str]) -> Mapping[str, Digest | FileError]:
        """Return the SHA-256 of each file; threads take the files in the order given (the largest should be first)."""
        wanted = list(names)
        with ThreadPoolExecutor(self._threads) as pool:
            return dict(zip(wanted, pool.map(self._digest, wanted), strict=True))

    def _digest(self, name: str) -> Digest | FileError:
        if name in self._read:
            return self._read[name]
        state = hashlib.sha256()
        try:
            with self._open(name) as descriptor:
                while piece := self._piece(name, descriptor, _CHUNK_BYTES):
                    state.update(piece)
                    self._count(name, len(piece))
        except FileError as problem:
            return problem
        return Digest("sha256", state.hexdigest())

    def _count(self, name: str, size_bytes: int) -> None:
        if self._on_bytes is not None:
            self._on_bytes(name, size_bytes)

    @staticmethod
    def _piece(name: str, descriptor: int, size: int) -> bytes:
        try:
            return os.read(descriptor, size)
        except OSError as error:
            raise FileError(name, "unreadable", str(error.strerror)) from error

    @contextmanager
    def _open(self, name: str) -> Iterator[int]:
        """Open a regular file below the directory, following no link on the way."""
        *directories, last = name.split("/")
        if not all(part not in ("", ".", "..") for part in (*directories, last)):
            raise FileError(name, "bad-name", "is not a plain relative path")
        opened: list[int] = []
        try:
            parent = self._root
            for directory in directories:
                parent = os.open(directory, _FLAGS | os.O_DIRECTORY, dir_fd=parent)
                opened.append(parent)
            descriptor = os.open(last, _FLAGS, dir_fd=parent)
            opened.append(descriptor)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileError(name, "not-a-regular-file", "is not a regular file")
            yield descriptor
        except FileNotFoundError as error:
            raise FileError(name, "missing", "does not exist") from error
        except OSError as error:
            raise FileError(name, "unreadable", str(error.strerror)) from error
        finally:
            for descriptor in reversed(opened):
                os.close(descriptor)
