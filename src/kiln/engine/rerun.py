"""Answering at once a command that has nothing to do, because it is the one before it again.

A build that went well leaves a note in its store: what was asked (command line, directory, manifest), which files
decided the answer (by inode, size and times), which objects it is made of, and what was printed. Where all of it is as
it was, the same answer is true; exports are made again, unless they are there untouched. Anything else, and any doubt,
is for kiln.engine.command. Loading that takes longer than all that is done here, with nothing but what the interpreter
has loaded anyway.
"""

from __future__ import annotations

import binascii
import fcntl
import marshal
import os
import sys
from collections.abc import Iterable, Iterator, Sequence

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

VERSION: Final = 1
DIRECTORY: Final = "reruns"
NO_OWNERS: Final = "OSBUILD_EXPORT_FORCE_NO_PRESERVE_OWNER"
DEFAULT_STORE: Final = ".osbuild"
LOCKS: Final = ("store.lock", "pins.lock")
"""Held together with others: nobody evicts an object meanwhile."""
MOUNT_POINT: Final = "working"
"""A directory of every store, which an overlay covers in the mount namespace of this process alone."""
BOOT: Final = "/proc/sys/kernel/random/boot_id"
MAX_EXPORTED: Final = 4096
"""Looking at more exported files than this is no quicker than exporting them."""
STANDARD_INPUT: Final = "-"


class Answer:
    """*known* is what the command prints, or None where it must be run, with the *standard_input* that was read."""

    __slots__ = ("known", "standard_input")

    def __init__(self, known: str | None = None, standard_input: bytes | None = None) -> None:
        self.known = known
        self.standard_input = standard_input


def answer(argv: Sequence[str]) -> Answer:
    """Look for a note that answers a command line, and act on it. Never fails: a doubt is no answer."""
    data = None
    try:
        store = store_of(argv)
        with open(note_path(store, argv), "rb") as file:
            note: dict[str, Any] = marshal.load(file)  # noqa: S302 - the store also holds the programs that root runs
        if note["question"] != question(argv, store) or os.geteuid() != 0:
            return Answer()
        if note["manifest name"] == STANDARD_INPUT:
            data = manifest = sys.stdin.buffer.read()
        else:
            with open(note["manifest name"], "rb") as file:
                manifest = file.read()
        libdir, real = note["libdir"]
        if manifest != note["manifest"] or os.path.realpath(libdir) != real:
            return Answer(None, data)
        if any(signature(path) != known for path, known in note["files"]):
            return Answer(None, data)
        return Answer(_repeat(store, note), data)
    except (OSError, ValueError, TypeError, KeyError, EOFError):
        return Answer(None, data)


def store_of(argv: Sequence[str]) -> str:
    """Return the store that a command line names; where it does so in an unusual spelling, no note will be found."""
    found = DEFAULT_STORE
    for position, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in ("--store", "--cache"):
            found = value if equals else argv[position + 1] if position + 1 < len(argv) else found
    return os.path.abspath(found)


def question(argv: Sequence[str], store: str) -> tuple[object, ...]:
    """Return what was asked, but for the manifest: an answer of another boot or interpreter is none."""
    with open(BOOT, encoding="ascii") as file:
        boot = file.read()
    return (VERSION, sys.version, tuple(argv), os.getcwd(), store, os.environ.get(NO_OWNERS), boot)


def note_path(store: str, argv: Sequence[str]) -> str:
    """Return where the note for a command line is; the name need not be unique, the note says what it is for."""
    return f"{store}/{DIRECTORY}/{binascii.crc32(repr((list(argv), os.getcwd())).encode()):08x}"


def signature(path: str) -> tuple[int, ...] | None:
    """Return what changes with a file, or None where there is none."""
    try:
        state = os.lstat(path)
    except OSError:
        return None
    return (state.st_dev, state.st_ino, state.st_mode, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


def exported(destination: str) -> list[tuple[str, tuple[int, ...] | None]] | None:
    """Return the state of everything in an export; None where there is too much or nothing."""
    found: list[tuple[str, tuple[int, ...] | None]] = []
    for path in _walk(destination):
        found.append((path, signature(path)))
        if len(found) > MAX_EXPORTED:
            return None
    return found or None


def _walk(directory: str) -> Iterator[str]:
    if os.path.isdir(directory):
        yield directory
        with os.scandir(directory) as entries:
            inside = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for path, is_directory in inside:
            if is_directory:
                yield from _walk(path)
            else:
                yield path


def _repeat(store: str, note: dict[str, Any]) -> str | None:
    held = []
    try:
        for name in LOCKS:
            held.append(os.open(f"{store}/{name}", os.O_RDWR | os.O_CLOEXEC))
            fcntl.flock(held[-1], fcntl.LOCK_SH | fcntl.LOCK_NB)
        if not all(os.path.isdir(layer) for layers, *_ in note["exports"] for layer in layers):
            return None
        for path in note["objects"]:
            os.utime(path)  # used now: others are evicted before it
        for layers, destination, there in note["exports"]:
            if there is None or any(signature(path) != known for path, known in there):
                _export(store, layers, destination)
    finally:
        for descriptor in held:
            os.close(descriptor)
    known: str = note["output"]
    return known


def _export(store: str, layers: Iterable[str], destination: str) -> None:
    """Copy a tree, whose layers stand top first, out of the store. Raises OSError."""
    from pathlib import Path  # noqa: PLC0415 - not needed where everything is there

    from kiln.engine.objects.copying import copy_tree  # noqa: PLC0415

    paths = [Path(layer) for layer in layers]
    owners = os.environ.get(NO_OWNERS) != "1"
    if len(paths) == 1:
        copy_tree(paths[0], Path(destination), owners=owners)
        return
    from kiln.linux import mounts  # noqa: PLC0415

    mounts.private_namespace()
    top = paths[0]

    def real(relative: str) -> Path | None:
        path = top / relative
        return path if path.is_file() and not path.is_symlink() else None

    with mounts.overlay(paths, Path(store) / MOUNT_POINT) as tree:
        copy_tree(tree, Path(destination), real=real, owners=owners)
