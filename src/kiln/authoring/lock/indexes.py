"""Reading an archive's indexes: the signed InRelease each time, the Packages files only when they have changed.

Packages files lie in the cache by the SHA-256 of their content, compressed as fetched and decompressed. Nothing
that comes from a mirror or from the cache is used before its size and SHA-256 are those of the signed text;
decompression stops at the size that the signed text promises, so that a small file cannot become an endless one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from rapidfuzz import process

from kiln.authoring.catalog.model import Mirror
from kiln.authoring.lock.compression import SUFFIXES, decompress
from kiln.authoring.lock.index_cache import IndexCache
from kiln.authoring.lock.keyrings import Keyrings
from kiln.authoring.lock.openpgp import SecondOpinion
from kiln.authoring.lock.release import (
    DEFAULT_FRESHNESS,
    Freshness,
    IndexedFile,
    IndexName,
    SignedIndex,
    refuse,
    rfc3339,
    verify_index,
)
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Notice, Progress, Sink
from kiln.fetch.model import Download
from kiln_wire.digest import Digest

STEP: Final = "lock"
MAX_INRELEASE_BYTES: Final = 16 * 1024 * 1024
"""Debian's main suite has 0.15 MB, its unstable one 0.25 MB."""
MAX_PACKAGES_BYTES: Final = 1024 * 1024 * 1024
"""Decompressed, where the signed text does not say how long; Debian's main suite has 50 MB."""


class IndexFetcher(Protocol):
    """What is needed of `kiln.fetch.client.Fetcher`."""

    def get_bytes(self, mirror: str, path: str, *, max_bytes: int) -> bytes:
        """Return a small file. Raises KilnError(FETCH)."""

    def download_all(self, step: str, downloads: Sequence[Download]) -> None:
        """Fetch files of known digest to their destinations. Raises KilnError(FETCH)."""


@dataclass(frozen=True, slots=True)
class ReadFile:
    """A Packages file that was verified."""

    component: str
    architecture: str
    digest: Digest
    """Of the decompressed content, which lies at *cached*."""
    cached: Path
    data: bytes

    @property
    def path(self) -> str:
        """Below the suite's directory."""
        return f"{self.component}/binary-{self.architecture}/Packages"


@dataclass(frozen=True, slots=True)
class ReadIndex:
    """A suite with the Packages files of the components and the architecture that were asked for."""

    signed: SignedIndex
    components: tuple[str, ...]
    files: tuple[ReadFile, ...]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A Packages file in the form in which it is fetched."""

    index: SignedIndex
    component: str
    architecture: str
    suffix: str
    packed: IndexedFile
    plain: IndexedFile | None

    @property
    def path(self) -> str:
        return f"{self.component}/binary-{self.architecture}/Packages{self.suffix}"

    def url_path(self, *, by_hash: bool) -> str:
        suite = f"dists/{self.index.name.suite}"
        if by_hash:
            return f"{suite}/{self.path.rpartition('/')[0]}/by-hash/SHA256/{self.packed.digest.hex}"
        return f"{suite}/{self.path}"


class IndexReader:
    """Fetches, verifies and caches indexes below *cache*."""

    def __init__(
        self,
        fetcher: IndexFetcher,
        keyrings: Keyrings,
        cache: Path,
        sink: Sink,
        now: datetime,
        *,
        freshness: Freshness = DEFAULT_FRESHNESS,
        second_opinion: SecondOpinion | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._keyrings = keyrings
        self._cache = IndexCache(cache / "indexes")
        self._sink = sink
        self._now = now
        self._freshness = freshness
        self._second_opinion = second_opinion

    def read(self, mirrors: Sequence[Mirror], architecture: str) -> tuple[ReadIndex, ...]:
        """Return the indexes of *mirrors*, in their order.

        Raises KilnError(LOCK) as verify_index does and with `unknown-component`, `unknown-architecture` and
        `wrong-index` (a Packages file that is not what the signed text promises); KilnError(FETCH) naming mirror,
        suite and file; KilnError(HOST): `missing-keyring`.
        """
        total = 2 * len(mirrors)
        signed: list[SignedIndex] = []
        for mirror in mirrors:
            self._sink.emit(Progress(STEP, len(signed), total, "files", f"{mirror.mirror} {mirror.suite}"))
            signed.append(self._release(mirror))
        wanted = [
            _choose(index, mirror.components, architecture) for index, mirror in zip(signed, mirrors, strict=True)
        ]
        self._fetch([file for files in wanted for file in files])
        read: list[ReadIndex] = []
        for index, mirror, files in zip(signed, mirrors, wanted, strict=True):
            item = f"{mirror.mirror} {mirror.suite} Packages"
            self._sink.emit(Progress(STEP, len(signed) + len(read), total, "files", item))
            read.append(ReadIndex(index, mirror.components, tuple(self._open(file) for file in files)))
        for index in signed:
            # Only now: an index whose files the mirror does not have must not keep an older, whole one out.
            self._cache.remember(index.name, index.date)
        self._sink.emit(Progress(STEP, total, total, "files"))
        return tuple(read)

    def _release(self, mirror: Mirror) -> SignedIndex:
        name = IndexName(mirror.mirror, mirror.suite)
        keyring = self._keyrings.load(mirror.keyring)
        path = f"dists/{mirror.suite}/InRelease"
        try:
            data = self._fetcher.get_bytes(mirror.mirror, path, max_bytes=MAX_INRELEASE_BYTES)
        except KilnError as error:
            raise _named(error, name, "InRelease") from error
        index = verify_index(
            data,
            name,
            keyring,
            self._now,
            earlier=self._cache.seen(name),
            freshness=self._freshness,
            second_opinion=self._second_opinion,
        )
        if index.valid_until is not None and self._now > index.valid_until:
            text = f"the index of {name} was valid until {rfc3339(index.valid_until)} and is used all the same"
            self._sink.emit(Notice("warning", text))
        return index

    def _fetch(self, wanted: Sequence[_Wanted]) -> None:
        missing = self._missing(wanted)
        if not missing:
            return
        try:
            self._download(missing, by_hash=True)
        except KilnError as error:
            # Some mirrors say Acquire-By-Hash and do not carry those files; apt falls back in the same way.
            if error.reason != "not-found" or not any(file.index.acquire_by_hash for file in missing):
                raise
            self._download(self._missing(missing), by_hash=False)

    def _download(self, wanted: Sequence[_Wanted], *, by_hash: bool) -> None:
        by_url = {file.url_path(by_hash=by_hash and file.index.acquire_by_hash): file for file in wanted}
        downloads = [
            Download(
                url, file.index.name.mirror, file.packed.digest, file.packed.size_bytes, self._cache.path(file.packed)
            )
            for url, file in by_url.items()
        ]

        def culprit(error: KilnError) -> _Wanted:
            named = (file for url, file in by_url.items() if url in error.message)
            left = (file for file in wanted if not self._cache.has(file.packed))
            return next(named, next(left, wanted[0]))

        try:
            self._fetcher.download_all(STEP, downloads)
        except KilnError as error:
            file = culprit(error)
            raise _named(error, file.index.name, file.path) from error

    def _open(self, file: _Wanted) -> ReadFile:
        """Return the decompressed content, from the cache where it is there and whole."""
        if file.plain is not None and (data := self._cache.load(file.plain)) is not None:
            return ReadFile(file.component, file.architecture, file.plain.digest, self._cache.path(file.plain), data)
        packed = self._cache.load(file.packed)
        if packed is None:
            self._fetch([file])  # what was cached had the right size but other bytes, and is gone now
            packed = self._cache.load(file.packed)
        if packed is None:
            raise self._wrong(file, "its size or SHA-256 is not what the signed index promises")
        limit = file.plain.size_bytes if file.plain is not None else MAX_PACKAGES_BYTES
        try:
            data = decompress(packed, file.suffix, limit)
        except ValueError as error:
            raise self._wrong(file, str(error)) from None
        entry = IndexedFile(Digest.of(data), len(data))
        if file.plain is not None and entry != file.plain:
            raise self._wrong(file, "decompressed, it is not what the signed index promises")
        self._cache.store(entry, data)
        return ReadFile(file.component, file.architecture, entry.digest, self._cache.path(entry), data)

    def _wrong(self, file: _Wanted, problem: str) -> KilnError:
        self._cache.drop(file.packed)
        hint = "the mirror is broken, or something changes files on the way; try another mirror for this name"
        place = f"{file.index.name.mirror}:dists/{file.index.name.suite}/{file.path}"
        return refuse(file.index.name, "wrong-index", f"{place}: {problem}", hint=hint)

    def _missing(self, wanted: Sequence[_Wanted]) -> list[_Wanted]:
        return [
            file
            for file in wanted
            if not self._cache.has(file.packed) and not (file.plain is not None and self._cache.has(file.plain))
        ]


def _choose(index: SignedIndex, components: Sequence[str], architecture: str) -> tuple[_Wanted, ...]:
    """Return the Packages files to read: of each component for the architecture, and for `all` where separate."""
    if architecture not in index.architectures:
        raise _unknown(index, "architecture", architecture, index.architectures)
    wanted: list[_Wanted] = []
    for component in components:
        # A suite such as Debian's security one calls them `updates/main` and has them below `main`.
        if not any(component in (known, known.rpartition("/")[2]) for known in index.components):
            raise _unknown(index, "component", component, index.components)
        wanted.append(_packages(index, component, architecture))
        if index.separate_all:
            wanted.append(_packages(index, component, "all"))
    return tuple(wanted)


def _packages(index: SignedIndex, component: str, architecture: str) -> _Wanted:
    path = f"{component}/binary-{architecture}/Packages"
    for suffix in SUFFIXES:
        if (packed := index.files.get(path + suffix)) is not None:
            return _Wanted(index, component, architecture, suffix, packed, index.files.get(path))
    raise refuse(index.name, "malformed-index", f"it lists no SHA-256 of {path} in a form that can be read")


def _unknown(index: SignedIndex, what: str, word: str, known: Sequence[str]) -> KilnError:
    near = process.extractOne(word, known, score_cutoff=60.0)
    return KilnError(
        Domain.LOCK,
        f"unknown-{what}",
        f"{index.name} has no {what} `{word}`",
        detail=f"it has: {', '.join(known)}",
        hint=f"did you mean `{near[0]}`?" if near else f"choose one of: {', '.join(known)}",
        exit_status=ExitStatus.USAGE,
    )


def _named(error: KilnError, name: IndexName, file: str) -> KilnError:
    """Return a fetcher's refusal with the mirror, the suite and the file in its message."""
    return KilnError(
        error.domain,
        error.reason,
        f"{name}: cannot fetch {file}: {error.message}",
        place=error.place,
        detail=error.detail,
        hint=error.hint,
        exit_status=error.exit_status,
        retriable=error.retriable,
    )
