"""The content id of a tree: SHA-256 over a canonical listing of everything in it that a program can see.

One line a file, each directory before what is in it, names sorted by their bytes: a JSON array of path, type, mode,
uid, gid, mtime in nanoseconds, extended attributes (name and hexadecimal value, sorted), and then for a regular file
its size and SHA-256, or the path that came first for another name of the same file; for a symbolic link its text;
for a device its number.
Sizes of directories and numbers of links are left out: they depend on the file system.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from kiln.engine.objects.copying import OVERLAY_ATTRIBUTES

PREFIX: Final = "sha256:"
_TYPES: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


def tree_id(root: Path) -> str:
    """Return the content id (`sha256:<hex>`) of the tree at *root*. Raises OSError."""
    state = hashlib.sha256()
    for line in listing(root):
        state.update(json.dumps(line, separators=(",", ":")).encode("ascii") + b"\n")
    return PREFIX + state.hexdigest()


def listing(root: Path) -> Iterator[list[object]]:
    """Yield the entries of the canonical listing."""
    seen: dict[tuple[int, int], str] = {}
    yield _entry(str(root), ".", seen)
    for path in paths(f"{root}/", ""):
        yield _entry(f"{root}/{path}", path, seen)


def paths(base: str, prefix: str) -> Iterator[str]:
    """Yield relative paths, each directory before what is in it, the names of a directory sorted by their bytes."""
    with os.scandir(base + prefix) as entries:
        found = sorted((os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_directory in found:
        path = prefix + os.fsdecode(name)
        yield path
        if is_directory:
            yield from paths(base, f"{path}/")


def _entry(full: str, path: str, seen: dict[tuple[int, int], str]) -> list[object]:
    status = os.lstat(full)
    kind = stat.S_IFMT(status.st_mode)
    line: list[object] = [
        path,
        _TYPES[kind],
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        _attributes(full),
    ]
    if kind == stat.S_IFREG:
        first = seen.setdefault((status.st_dev, status.st_ino), path) if status.st_nlink > 1 else path
        line += [status.st_size, _sha256(full)] if first == path else [first]
    elif kind == stat.S_IFLNK:
        line.append(str(Path(full).readlink()))
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        line.append([os.major(status.st_rdev), os.minor(status.st_rdev)])
    return line


def _attributes(full: str) -> list[list[str]]:
    return [
        [name, os.getxattr(full, name, follow_symlinks=False).hex()]
        for name in sorted(os.listxattr(full, follow_symlinks=False))
        if not name.startswith(OVERLAY_ATTRIBUTES)
    ]


def _sha256(full: str) -> str:
    with os.fdopen(os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
