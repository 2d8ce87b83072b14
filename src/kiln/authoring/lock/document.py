"""`kiln.lock`: the lock as a JSON document, and its strict reader.

A lock decides what is fetched and where it is written, and people edit and merge it: whatever does not hang
together is refused with its place, never repaired.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from kiln.authoring.lock.model import BUILD_TREE, IMAGE_TREE, Lock, LockedIndex, LockedPackage, LockedTree
from kiln.authoring.lock.names import ARCHITECTURE, PACKAGE_NAME, VERSION, is_plain_path
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln_wire.canonical import CanonicalError, pretty_json, strict_loads
from kiln_wire.codec import DocumentError, decode, encode
from kiln_wire.digest import Digest

LOCK_KIND: Final = "kiln.lock/v1"
TREE_NAMES: Final = (BUILD_TREE, IMAGE_TREE)
MAX_LOCK_BYTES: Final = 64 * 1024 * 1024
"""A lock has about 600 bytes for each package."""
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LOGICAL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_/-]*")
_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def lock_document(lock: Lock) -> dict[str, Any]:
    """Return the lock as a JSON object."""
    return {"kind": LOCK_KIND, **encode(lock)}


def lock_bytes(lock: Lock) -> bytes:
    """Return the text of `kiln.lock`: indented, keys sorted, the same for the same lock."""
    return pretty_json(lock_document(lock))


def lock_digest(lock: Lock) -> Digest:
    """Return the digest of the file's text, by which later documents name the lock."""
    return Digest.of(lock_bytes(lock))


def read_lock(data: bytes, file: str) -> Lock:
    """Read `kiln.lock`. Raises KilnError(LOCK, "bad-lock") with the place in *file*."""
    try:
        document = strict_loads(data, max_bytes=MAX_LOCK_BYTES)
        if not isinstance(document, dict) or document.get("kind") != LOCK_KIND:
            raise DocumentError("$.kind", f"this is not a {LOCK_KIND} document")
        lock = decode(Lock, {key: value for key, value in document.items() if key != "kind"})
        _check(lock)
    except CanonicalError as error:
        raise _bad(file, "", str(error)) from None
    except DocumentError as error:
        raise _bad(file, error.path, error.problem) from None
    return lock


def _bad(file: str, path: str, problem: str) -> KilnError:
    return KilnError(
        Domain.LOCK,
        "bad-lock",
        f"the lock is refused: {problem}",
        place=Place(file, path=path),
        hint="restore the file from version control, or make it anew with `kiln build --update-lock`",
        exit_status=ExitStatus.REFUSED,
    )


def _check(lock: Lock) -> None:
    _require(bool(PACKAGE_NAME.fullmatch(lock.base)), "$.base", "not the id of a base")
    _require(bool(ARCHITECTURE.fullmatch(lock.architecture)), "$.architecture", "not an architecture")
    _require(bool(lock.indexes), "$.indexes", "a lock has at least one index")
    for number, index in enumerate(lock.indexes):
        _check_index(index, f"$.indexes[{number}]")
    names = [(index.mirror, index.suite) for index in lock.indexes]
    _unique(names, "$.indexes", str)
    newest = max(_seconds(index.date) for index in lock.indexes)
    _require(lock.epoch == newest, "$.epoch", f"not the newest index's date, {newest}")
    _require(bool(lock.trees), "$.trees", "a lock has at least one tree")
    for number, tree in enumerate(lock.trees):
        _require(tree.name in TREE_NAMES, f"$.trees[{number}].name", f"{tree.name!r} is not a tree")
    _sorted([tree.name for tree in lock.trees], "$.trees", str)
    files: dict[tuple[str, str], tuple[Digest, int]] = {}
    for number, tree in enumerate(lock.trees):
        _check_tree(lock, tree, f"$.trees[{number}].packages", names)
        for place, package in _placed(tree, f"$.trees[{number}].packages"):
            content = (package.digest, package.size_bytes)
            same = files.setdefault((package.mirror, package.path), content) == content
            _require(same, f"{place}.digest", f"{package.path} has another digest elsewhere in this lock")


def _check_index(index: LockedIndex, place: str) -> None:
    for key, words in (("mirror", (index.mirror,)), ("suite", (index.suite,)), ("components", index.components)):
        for word in words:
            fine = bool(_LOGICAL_NAME.fullmatch(word)) and is_plain_path(word)
            _require(fine, f"{place}.{key}", f"{word!r} is not a logical name")
    _require(bool(index.components), f"{place}.components", "empty")
    _require(index.digest.algorithm == "sha256", f"{place}.digest", "not a SHA-256")
    for key, date in (("date", index.date), ("validUntil", index.valid_until or index.date)):
        try:
            _seconds(date)
        except ValueError:
            _refuse(f"{place}.{key}", f"{date!r} is not a time in UTC as RFC 3339 spells it")
    _require(bool(index.signed_by), f"{place}.signedBy", "an index that nobody signed")
    for fingerprint in index.signed_by:
        _require(bool(_FINGERPRINT.fullmatch(fingerprint)), f"{place}.signedBy", f"{fingerprint!r} is no fingerprint")
    _sorted(index.signed_by, f"{place}.signedBy", str)


def _check_tree(lock: Lock, tree: LockedTree, place: str, indexes: Sequence[tuple[str, str]]) -> None:
    _sorted(
        [(package.name, package.architecture) for package in tree.packages], place, lambda key: f"{key[0]}:{key[1]}"
    )
    names = {package.name for package in tree.packages}
    for at, package in _placed(tree, place):
        for key, value, form in (
            ("name", package.name, PACKAGE_NAME),
            ("version", package.version, VERSION),
            ("source", package.source, PACKAGE_NAME),
            ("sourceVersion", package.source_version, VERSION),
            ("architecture", package.architecture, ARCHITECTURE),
        ):
            _require(bool(form.fullmatch(value)), f"{at}.{key}", f"{value!r} is malformed")
        fits = package.architecture in (lock.architecture, "all")
        _require(fits, f"{at}.architecture", f"{package.architecture} in a lock for {lock.architecture}")
        _require((package.mirror, package.suite) in indexes, f"{at}.suite", "not a suite of this lock's indexes")
        _require(is_plain_path(package.path), f"{at}.path", f"{package.path!r} leads out of the mirror's root")
        _require(package.digest.algorithm == "sha256", f"{at}.digest", "not a SHA-256")
        _require(package.size_bytes > 0, f"{at}.sizeBytes", "not a size")
        _require(package.installed_size_bytes >= 0, f"{at}.installedSizeBytes", "not a size")
        _require(bool(package.reason) and package.reason.isprintable(), f"{at}.reason", "no reason")
        _sorted(package.depends, f"{at}.depends", str)
        for name in package.depends:
            _require(name in names, f"{at}.depends", f"{name!r} is not in the tree")


def _placed(tree: LockedTree, place: str) -> Iterator[tuple[str, LockedPackage]]:
    for number, package in enumerate(tree.packages):
        yield f"{place}[{number}]", package


def _seconds(text: str) -> int:
    moment = datetime.strptime(text, _TIME_FORMAT).replace(tzinfo=UTC)
    if moment.strftime(_TIME_FORMAT) != text:
        raise ValueError(text)
    return int(moment.timestamp())


def _sorted(keys: Sequence[Any], place: str, name: Callable[[Any], str]) -> None:
    _unique(keys, place, name)
    for before, after in itertools.pairwise(keys):
        _require(before < after, place, f"{name(after)} stands after {name(before)}: not sorted")


def _unique(keys: Sequence[Any], place: str, name: Callable[[Any], str]) -> None:
    seen: set[Any] = set()
    for key in keys:
        _require(key not in seen, place, f"{name(key)} stands twice")
        seen.add(key)


def _require(condition: bool, place: str, problem: str) -> None:
    if not condition:
        _refuse(place, problem)


def _refuse(place: str, problem: str) -> NoReturn:
    raise DocumentError(place, problem)
