"""The inputs that the engine serves itself: files by digest, files of a tree, and whole trees.

Source files are hard-linked into one directory, so that a stage sees only those that it names and nothing is copied.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kiln.engine.manifest.model import ORIGIN_PIPELINE, ORIGIN_SOURCE, Input
from kiln.engine.objects.copying import copy_file
from kiln.engine.objects.model import ObjectRef
from kiln.engine.objects.store import ObjectStore
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux import mounts
from kiln.linux.sandbox import Mount

FILES: Final = "org.osbuild.files"
TREE: Final = "org.osbuild.tree"
NATIVE_INPUTS: Final = frozenset({FILES, TREE})
INSIDE: Final = "/run/osbuild/inputs"


@dataclass(frozen=True, slots=True)
class InputContext:
    """What inputs are served from. *scratch* is a directory of the stage; *trees* are by pipeline name."""

    store: ObjectStore
    trees: Mapping[str, ObjectRef]
    sizes: Mapping[str, int]
    scratch: Path
    held: ExitStack


def map_input(entry: Input, context: InputContext) -> tuple[Mount, dict[str, Any]]:
    """Prepare an input; return its mount and what the stage is told about it. Raises KilnError, OSError."""
    inside = f"{INSIDE}/{entry.name}"
    if entry.type == TREE:
        return Mount("ro", inside, str(_tree(entry, context))), {"path": inside}
    if entry.origin == ORIGIN_SOURCE:
        directory, found = _source_files(entry, context)
    else:
        directory, found = _pipeline_files(entry, context)
    return Mount("ro", inside, str(directory)), {"path": inside, "data": {"files": found}}


def check_input(entry: Input, place: str) -> None:
    """Refuse an input that cannot be served. Raises KilnError with reason `invalid-manifest`."""
    if entry.type == TREE and (entry.origin != ORIGIN_PIPELINE or len(entry.pipelines) != 1):
        raise KilnError(
            Domain.MANIFEST,
            "invalid-manifest",
            f"{place}: the input `{entry.name}` must refer to exactly one pipeline",
            exit_status=ExitStatus.USAGE,
        )


def _source_files(entry: Input, context: InputContext) -> tuple[Path, dict[str, Any]]:
    directory = context.store.directory("files-")
    context.held.callback(context.store.throw_away, directory)
    found = {}
    source = os.open(context.store.files, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    target = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for checksum, options in entry.references.items():
            _check_size(checksum, source, context)
            try:
                os.link(checksum, checksum, src_dir_fd=source, dst_dir_fd=target)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                    raise
                copy_file(context.store.files / checksum, directory / checksum)
            found[checksum] = options.get("metadata", {})
    finally:
        os.close(source)
        os.close(target)
    return directory, found


def _check_size(checksum: str, source: int, context: InputContext) -> None:
    """The digest was checked when the file came; a file that was cut off since is found by its size."""
    expected = context.sizes.get(checksum)
    actual = os.stat(checksum, dir_fd=source).st_size
    if expected is not None and actual != expected:
        os.unlink(checksum, dir_fd=source)
        raise KilnError(
            Domain.ENGINE,
            "damaged-source",
            f"the source file {checksum} has {actual} bytes instead of {expected}",
            hint="it was taken away; the next run fetches it again",
            exit_status=ExitStatus.INFRASTRUCTURE,
            retriable=True,
        )


def _pipeline_files(entry: Input, context: InputContext) -> tuple[Path, dict[str, Any]]:
    directory = _new(context, "files")
    found = {}
    for name, options in zip(entry.pipelines, entry.references.values(), strict=True):
        path = str(options.get("file", "")).lstrip("/")
        tree = context.held.enter_context(context.store.view(context.trees[name], _new(context, "view")))
        target = _inside(directory, path, entry)
        try:
            descriptor = mounts.open_in_root(tree, path)
        except FileNotFoundError:
            raise KilnError(
                Domain.ENGINE, "missing-input-file", f"the tree of the pipeline `{name}` has no file /{path}"
            ) from None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
            mounts.bind_on(f"/proc/thread-self/fd/{descriptor}", target, read_only=True)
            context.held.callback(mounts.unmount, target, lazy=True)
        finally:
            os.close(descriptor)
        found[path] = options.get("metadata", {})
    return directory, found


def _inside(directory: Path, path: str, entry: Input) -> Path:
    if not path or ".." in Path(path).parts:
        raise KilnError(
            Domain.MANIFEST,
            "invalid-manifest",
            f"the input `{entry.name}` must name a file of the pipeline's tree, not {path!r}",
            hint='{"references": {"name:<pipeline>": {"file": "/path"}}}',
            exit_status=ExitStatus.USAGE,
        )
    return directory / path


def _tree(entry: Input, context: InputContext) -> Path:
    return context.held.enter_context(context.store.view(context.trees[entry.pipelines[0]], _new(context, "tree")))


def _new(context: InputContext, prefix: str) -> Path:
    number = sum(1 for _ in context.scratch.iterdir())
    path = context.scratch / f"{prefix}-{number}"
    path.mkdir()
    return path
