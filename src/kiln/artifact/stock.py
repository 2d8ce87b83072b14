"""The inventory of a built tree: every file with its owner and content, every package with its licence.

Made once, while the tree is at hand; SBOMs, licence report and comparisons are made from it. It has no times.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from kiln.artifact.copyright import read_copyright
from kiln.artifact.dpkg import Ownership, read_ownership
from kiln.artifact.licences import UNKNOWN, Licence, Source, licence_of
from kiln.artifact.rooted import RootedTree
from kiln.artifact.system_facts import (
    Account,
    EnabledUnit,
    Group,
    Sysctl,
    accounts,
    enabled_units,
    groups,
    sysctls,
)
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln.events.model import NullSink, Progress, Sink
from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads
from kiln_wire.codec import DocumentError, decode, encode
from kiln_wire.digest import Digest

KIND: Final = "kiln.inventory/v1"
MAX_COPYRIGHT_BYTES: Final = 8 * 1024 * 1024
MAX_INVENTORY_BYTES: Final = 512 * 1024 * 1024
_CHUNK_BYTES: Final = 1024 * 1024
_FILES_PER_EVENT: Final = 500

FileType = Literal["file", "directory", "link", "device", "pipe", "socket"]
_TYPES: Final[dict[int, FileType]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One name in the tree. What does not apply to its type is empty, null or 0."""

    path: str
    """From the root, with a slash in front; bytes that are not UTF-8 are written as `\\xNN`."""
    type: FileType
    mode: int
    """Permissions with setuid, setgid and sticky bit."""
    uid: int
    gid: int
    size_bytes: int
    packages: tuple[str, ...]
    """`name:architecture` of those that own it, sorted; empty for what no package owns, and for directories."""
    digest: Digest | None = None
    sha1: str = ""
    """SPDX 2.3 asks for it (section 8.4)."""
    target: str = ""
    """Of a link."""
    capabilities: str = ""
    """The extended attribute `security.capability` in hexadecimal (capabilities(7))."""


@dataclass(frozen=True, slots=True)
class StockedPackage:
    """An installed package with its licence as an SPDX expression, or empty where it is unknown."""

    name: str
    architecture: str
    version: str
    licence: str
    licence_source: Source


@dataclass(frozen=True, slots=True)
class Alteration:
    """A file that its package brought and that is not there any more as it came."""

    path: str
    package: str
    problem: Literal["missing", "changed"]


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything in a tree, sorted."""

    packages: tuple[StockedPackage, ...]
    files: tuple[TreeFile, ...]
    alterations: tuple[Alteration, ...]
    licence_texts: tuple[tuple[str, str], ...]
    """`LicenseRef-` -> text, for those in the packages' expressions."""
    accounts: tuple[Account, ...]
    groups: tuple[Group, ...]
    units: tuple[EnabledUnit, ...]
    sysctls: tuple[Sysctl, ...]


def take_stock(tree: Path, sink: Sink | None = None, *, step: str = "build", threads: int | None = None) -> Inventory:
    """Read the whole of *tree*. Emits Progress events in files.

    Raises KilnError(ARTIFACT, "no-dpkg-status" or "bad-dpkg-status"), OSError if a file can't be read.
    """
    sink = sink or NullSink()
    owned = read_ownership(tree)
    root = os.fsencode(tree)
    names = sorted(_names(root))
    files: list[TreeFile] = []
    alterations = [
        Alteration(_text(b"/" + path), package, "missing")
        for path, (package, _) in owned.md5.items()
        if not os.path.lexists(os.path.join(root, path))  # noqa: PTH118 - names are bytes
    ]
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        # hashlib releases the GIL, so threads are enough to use all cores
        found = pool.map(lambda name: _look(root, name, owned), names)
        for done, (file, md5) in enumerate(found, start=1):
            files.append(file)
            came = owned.md5.get(names[done - 1])
            if came is not None and md5 != came[1]:
                alterations.append(Alteration(file.path, came[0], "changed"))
            if done % _FILES_PER_EVENT == 0 or done == len(names):
                sink.emit(Progress(step, done, len(names), "files", file.path))
    rooted = RootedTree(tree)
    packages, texts = _packages(rooted, owned)
    return Inventory(
        packages=packages,
        files=tuple(sorted(files, key=lambda file: file.path)),
        alterations=tuple(sorted(alterations, key=lambda item: item.path)),
        licence_texts=texts,
        accounts=accounts(rooted),
        groups=groups(rooted),
        units=enabled_units(tree),
        sysctls=sysctls(rooted, tree),
    )


def inventory_bytes(inventory: Inventory) -> bytes:
    """Return the canonical bytes of the document."""
    document = {"kind": KIND, **encode(inventory)}
    for file in document["files"]:
        # Most fields of most files say nothing; without them the document is half as long.
        for key in ("digest", "sha1", "target", "capabilities"):
            if not file[key]:
                del file[key]
    return canonical_json(document)


def read_inventory(data: bytes, file: str) -> Inventory:
    """Read `evidence/inventory.json`. Raises KilnError(ARTIFACT, "bad-inventory") with the place in *file*."""
    try:
        document: Any = strict_loads(data, max_bytes=MAX_INVENTORY_BYTES)
        if not isinstance(document, dict) or document.pop("kind", None) != KIND:
            raise DocumentError("$.kind", f"this is not a {KIND} document")
        return decode(Inventory, document)
    except (CanonicalError, DocumentError) as error:
        raise KilnError(
            Domain.ARTIFACT,
            "bad-inventory",
            f"the inventory is refused: {error}",
            place=Place(file, path=getattr(error, "path", "")),
            hint="`kiln verify` says whether it is the one that was signed; `kiln build` makes it anew",
            exit_status=ExitStatus.REFUSED,
        ) from None


def _names(root: bytes) -> Iterator[bytes]:
    pending = [b""]
    while pending:
        current = pending.pop()
        with os.scandir(os.path.join(root, current)) as entries:  # noqa: PTH118 - names are bytes
            for entry in entries:
                name = current + b"/" + entry.name if current else entry.name
                yield name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(name)


def _look(root: bytes, name: bytes, owned: Ownership) -> tuple[TreeFile, str]:
    """Return a file and its MD5 (empty where nobody asks for it)."""
    path = os.path.join(root, name)  # noqa: PTH118 - names are bytes
    state = os.lstat(path)
    kind = _TYPES[stat.S_IFMT(state.st_mode)]
    digest, sha1, md5, capabilities = None, "", "", ""
    if kind == "file":
        digest, sha1, md5 = _hash(path, with_md5=name in owned.md5)
        try:
            capabilities = os.getxattr(path, "security.capability", follow_symlinks=False).hex()
        except OSError:
            capabilities = ""  # most files have none, some file systems cannot
    file = TreeFile(
        path=_text(b"/" + name),
        type=kind,
        mode=stat.S_IMODE(state.st_mode),
        uid=state.st_uid,
        gid=state.st_gid,
        size_bytes=state.st_size if kind == "file" else 0,
        packages=() if kind == "directory" else owned.owners.get(name, ()),
        digest=digest,
        sha1=sha1,
        target=_text(os.readlink(path)) if kind == "link" else "",  # noqa: PTH115 - names are bytes
        capabilities=capabilities,
    )
    return file, md5


def _hash(path: bytes, *, with_md5: bool) -> tuple[Digest, str, str]:
    sha256, sha1, md5 = hashlib.sha256(), hashlib.sha1(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        while chunk := os.read(descriptor, _CHUNK_BYTES):
            sha256.update(chunk)
            sha1.update(chunk)
            if with_md5:
                md5.update(chunk)
    finally:
        os.close(descriptor)
    return Digest("sha256", sha256.hexdigest()), sha1.hexdigest(), md5.hexdigest() if with_md5 else ""


def _packages(rooted: RootedTree, owned: Ownership) -> tuple[tuple[StockedPackage, ...], tuple[tuple[str, str], ...]]:
    known: dict[bytes, Licence] = {}
    packages: list[StockedPackage] = []
    texts: dict[str, str] = {}
    for package in owned.packages:
        data = rooted.read(f"usr/share/doc/{package.name}/copyright".encode(), MAX_COPYRIGHT_BYTES) or b""
        if data not in known:  # packages of one source have one file
            known[data] = licence_of(read_copyright(data)) if data else UNKNOWN
        licence = known[data]
        texts.update(licence.references)
        packages.append(
            StockedPackage(package.name, package.architecture, package.version, licence.expression, licence.source)
        )
    return tuple(packages), tuple(sorted(texts.items()))


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
