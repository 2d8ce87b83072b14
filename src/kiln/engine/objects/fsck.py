"""Checking a store: that every object is whole, that its content is what was written down, and every source its digest.

What is damaged goes to `quarantine/`, so that a build makes it again, and can be looked at. An object whose content is
right but that stands on a missing layer can be used by nobody; it goes there, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kiln.engine.objects.content import tree_id
from kiln.engine.objects.layout import LAYER_DIGEST, Layout
from kiln.engine.objects.model import RECORD_VERSION, ObjectRecord
from kiln.engine.objects.reader import read_record
from kiln.engine.objects.store import ObjectStore
from kiln.engine.objects.stream.writing import layer_digest
from kiln.errors import KilnError
from kiln_wire.digest import Digest, DigestError


@dataclass(frozen=True, slots=True)
class Damage:
    """*kind* is `object` or `source`, *name* its key or digest."""

    kind: str
    name: str
    problem: str


@dataclass(frozen=True, slots=True)
class Checked:
    """*verified* is how many objects and sources had a digest to compare with, and had it."""

    objects: int
    sources: int
    verified: int
    damaged: tuple[Damage, ...]


def check(root: Path, *, repair: bool = True) -> Checked:
    """Check the store at *root*; with *repair*, what is damaged is quarantined. Raises OSError, KilnError(STORE)."""
    layout = Layout(root)
    damaged: dict[tuple[str, str], Damage] = {}
    objects = sources = verified = 0
    with ObjectStore(root, background=False) as store:
        for key, record, structure in _records(layout):
            objects += 1
            problem = structure
            if problem is None and record is not None:
                compared, problem = _content(store, layout, record)
                verified += compared
            if problem is not None:
                damaged["object", key] = Damage("object", key, problem)
        for path in sorted(layout.files.iterdir()):
            if path.name.startswith("."):
                continue
            sources += 1
            problem = _source(path)
            if problem is None:
                verified += 1
            else:
                damaged["source", path.name] = Damage("source", path.name, problem)
    if repair:
        for damage in damaged.values():
            _quarantine(layout, damage)
    return Checked(objects, sources, verified, tuple(damaged.values()))


def _records(layout: Layout) -> Iterator[tuple[str, ObjectRecord | None, str | None]]:
    """Yield each object with its record and what is wrong with its structure."""
    for path in sorted(layout.objects.iterdir()):
        record = read_record(layout, path.name)
        problem = None
        if record is None:
            if _is_of_another_version(path / "object.json"):
                continue  # `kiln store gc` takes it away; it is not damaged
            problem = "its record cannot be read"
        elif record.key != path.name or record.layers[-1:] != (path.name,):
            problem = "its record is that of another object"
        elif len(set(record.layers)) != len(record.layers):
            problem = "a layer stands on itself"
        else:
            missing = [layer for layer in record.layers if not layout.layer(layer).is_dir()]
            if missing:
                problem = f"the layer {missing[0]} is missing"
        yield path.name, record, problem


def _content(store: ObjectStore, layout: Layout, record: ObjectRecord) -> tuple[bool, str | None]:
    """Return whether the content could be compared with something, and how it differs."""
    directory = layout.object(record.key)
    digest = _read(directory / LAYER_DIGEST)
    try:
        if digest is not None and layer_digest(layout.layer(record.key)) != digest:
            return False, "its layer does not have the digest that was written down"
        known = _read(directory / "content-id")
        ref = None if known is None else store.lookup(record.key)
        if ref is not None:
            with store.mounted(ref) as tree:
                if tree_id(tree) != known:
                    return False, "its tree does not have the content id that was written down"
    except (OSError, KilnError) as error:
        return False, f"it cannot be read: {error}"
    return digest is not None or known is not None, None


def _source(path: Path) -> str | None:
    try:
        digest = Digest.parse(path.name)
    except DigestError:
        # Those that a libdir's program fetched by md5 or sha1, which says nothing about who made them.
        algorithm, _, wanted = path.name.partition(":")
        if algorithm not in ("md5", "sha1"):
            return "its name is not a digest"
    else:
        algorithm, wanted = digest.algorithm, digest.hex
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        return f"it cannot be read: {error}"
    return None if found == wanted else f"its content has the digest {algorithm}:{found}"


def _quarantine(layout: Layout, damage: Damage) -> None:
    layout.quarantine.mkdir(mode=0o700, exist_ok=True)
    path = layout.object(damage.name) if damage.kind == "object" else layout.files / damage.name
    target = layout.quarantine / f"{damage.kind}-{damage.name}"
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{damage.kind}-{damage.name}-{number}")
    path.rename(target)


def _is_of_another_version(path: Path) -> bool:
    try:
        version = json.loads(path.read_bytes())["version"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(version, int) and version != RECORD_VERSION


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
