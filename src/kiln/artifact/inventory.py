"""What is in a tree: the hash of every regular file, and what dpkg says is installed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from kiln.errors import Domain, KilnError
from kiln.events.model import NullSink, Progress, Sink

DPKG_STATUS: Final = "var/lib/dpkg/status"
MAX_STATUS_BYTES: Final = 256 * 1024 * 1024
_CHUNK_BYTES: Final = 1024 * 1024
_FILES_PER_EVENT: Final = 500
_FIELD: Final = re.compile(r"^(Package|Status|Architecture|Version): *(.+)$", re.MULTILINE)
_ESCAPES: Final = ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\r", b"\\r"))


def squashfs_hashes(tree: Path, sink: Sink | None = None, *, step: str = "build", threads: int | None = None) -> bytes:
    """Return lines `<sha256>  ./path` for every regular file below *tree*, sorted by the path's bytes.

    The form is that of GNU `sha256sum`, so `sha256sum --check` reads it: a name with a newline, a carriage return
    or a backslash is escaped and its line starts with a backslash. Links are neither followed nor listed. Emits
    Progress events in files. Raises OSError if a file can't be read.
    """
    sink = sink or NullSink()
    root = os.fsencode(tree)
    names = sorted(_regular_files(root, b"."))
    lines = []
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        # hashlib releases the GIL, so threads are enough to use all cores
        digests = pool.map(lambda name: _sha256(os.path.join(root, name)), names)  # noqa: PTH118 - names are bytes
        for done, (name, digest) in enumerate(zip(names, digests, strict=True), start=1):
            lines.append(hash_line(name, digest))
            if done % _FILES_PER_EVENT == 0 or done == len(names):
                sink.emit(Progress(step, done, len(names), "files", os.fsdecode(name)))
    return b"".join(lines)


def hash_line(name: bytes, sha256: str) -> bytes:
    """Return one line as GNU sha256sum writes it (coreutils manual, "md5sum invocation")."""
    escaped = name
    for character, replacement in _ESCAPES:
        escaped = escaped.replace(character, replacement)
    prefix = b"\\" if escaped != name else b""
    return prefix + sha256.encode("ascii") + b"  " + escaped + b"\n"


def _regular_files(root: bytes, directory: bytes) -> Iterator[bytes]:
    pending = [directory]
    while pending:
        current = pending.pop()
        with os.scandir(os.path.join(root, current)) as entries:  # noqa: PTH118 - names are bytes
            for entry in entries:
                name = current + b"/" + entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(name)
                elif entry.is_file(follow_symlinks=False):
                    yield name


def _sha256(path: bytes) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        state = hashlib.sha256()
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            state.update(chunk)
        return state.hexdigest()
    finally:
        os.close(descriptor)


def dpkg_manifest(tree: Path) -> bytes:
    """Return lines `name:architecture TAB version` for every installed package of *tree*, sorted.

    Reads `var/lib/dpkg/status` of the tree. Packages of which only configuration files are left are not installed.
    Raises KilnError(ARTIFACT, "no-dpkg-status" or "bad-dpkg-status").
    """
    path = tree / DPKG_STATUS
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise KilnError(
            Domain.ARTIFACT,
            "no-dpkg-status",
            f"{path} can't be read: {error.strerror}",
            hint="the tree is not that of a Debian system, or its build did not end",
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_STATUS_BYTES + 1)
    if len(data) > MAX_STATUS_BYTES:
        raise _bad_status(path, f"has more than {MAX_STATUS_BYTES} bytes")
    lines = []
    for stanza in data.decode("utf-8", errors="replace").split("\n\n"):
        fields = dict(_FIELD.findall(stanza))
        if not fields.get("Status", "").endswith(" installed"):
            continue
        try:
            lines.append(f"{fields['Package']}:{fields['Architecture']}\t{fields['Version']}\n")
        except KeyError as error:
            raise _bad_status(path, f"the entry of {fields.get('Package', 'a package')} has no field {error}") from None
    return "".join(sorted(lines)).encode("utf-8")


def _bad_status(path: Path, problem: str) -> KilnError:
    return KilnError(Domain.ARTIFACT, "bad-dpkg-status", f"{path}: {problem}", hint="build the image again")
