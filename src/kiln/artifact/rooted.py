"""Paths as a system sees them that is rooted in a tree: links lead nowhere out of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

MAX_LINKS: Final = 40  # as many as Linux follows (path_resolution(7))


class RootedTree:
    """Resolves names below one directory. The tree must not change meanwhile."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)
        self._directories: dict[bytes, bytes] = {b"": b""}

    def resolve_parent(self, name: bytes) -> bytes:
        """Return *name* (`usr/bin/env`, no slash in front) with the links in its directories followed."""
        directory, _, last = name.strip(b"/").rpartition(b"/")
        return self._join(self._directory(directory, MAX_LINKS), last)

    def read(self, name: bytes, max_bytes: int) -> bytes | None:
        """Return the first *max_bytes* of a regular file, links followed inside the tree; None if there is none."""
        for _ in range(MAX_LINKS):
            name = self.resolve_parent(name)
            path = self._join(self._root, name)
            try:
                target = os.readlink(path)  # noqa: PTH115 - names are bytes
            except OSError:
                break
            base = b"" if target.startswith(b"/") else name.rpartition(b"/")[0]
            name = os.path.normpath(self._join(base, target.strip(b"/"))).lstrip(b"./")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            try:
                return file.read(max_bytes)
            except OSError:  # a directory
                return None

    def _directory(self, name: bytes, links: int) -> bytes:
        known = self._directories.get(name)
        if known is not None:
            return known
        parent, _, last = name.rpartition(b"/")
        if last == b"..":
            resolved = self._directory(parent, links).rpartition(b"/")[0]
        else:
            resolved = self._join(self._directory(parent, links), last)
            try:
                target = os.readlink(self._join(self._root, resolved))  # noqa: PTH115 - names are bytes
            except OSError:
                target = b""
            if target and links:
                base = b"" if target.startswith(b"/") else resolved.rpartition(b"/")[0]
                pieces = [piece for piece in self._join(base, target).split(b"/") if piece not in (b"", b".")]
                resolved = self._directory(b"/".join(pieces), links - 1)
        self._directories[name] = resolved
        return resolved

    @staticmethod
    def _join(directory: bytes, name: bytes) -> bytes:
        return directory + b"/" + name if directory else name
