"""Getting the files that a build needs, before it, by digest.

Only what the stages that will run read, and only what is not in the store yet.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from kiln.engine.manifest.model import ORIGIN_SOURCE, Plan, Source, Stage
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln.linux import files
from kiln_wire.digest import Digest, DigestError

if TYPE_CHECKING:
    from kiln.fetch.client import Fetcher

INLINE: Final = "org.osbuild.inline"
CURL: Final = "org.osbuild.curl"
MIRROR: Final = "org.kiln.mirror"
SUPPORTED: Final = (INLINE, CURL, MIRROR)
MAX_INLINE_BYTES: Final = 256 * 1024 * 1024
"""An inline source is text in a manifest; more than this after unpacking is an attack on the memory."""


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file to be fetched. *mirror* is a logical name and *path* is below it; for a URL, *mirror* is empty."""

    digest: Digest
    mirror: str
    path: str
    size_bytes: int | None
    destination: Path


class SourceFetcher(Protocol):
    """Whoever can get files from the network."""

    def fetch(self, wanted: Sequence[WantedFile]) -> None:
        """Put every file at its destination, verified, or raise KilnError(FETCH, ...)."""


class SourceStore(Protocol):
    """Where files are kept."""

    @property
    def files(self) -> Path:
        """Files by digest."""


class SourceServices(Protocol):
    """Whoever can run the libdir's programs for sources."""

    def download(self, source: Source, items: Mapping[str, Any]) -> list[SourceItem]:
        """Have *items* of *source* in the store. Raises SourceFailedError."""


class NoFetcher:
    """For builds without a network: whatever is missing is an error."""

    def fetch(self, wanted: Sequence[WantedFile]) -> None:
        """Refuse. Raises KilnError(FETCH, "offline")."""
        raise KilnError(
            Domain.FETCH,
            "offline",
            f"{len(wanted)} source file(s) are not in the store, and this build may not use the network",
            detail="\n".join(f"{entry.digest} {entry.path}" for entry in wanted),
        )


class MirrorSources:
    """Fetches with kiln.fetch, which is loaded only when something is missing."""

    def __init__(self, open_fetcher: Callable[[], AbstractContextManager[Fetcher]], *, step: str = "fetch") -> None:
        self._open = open_fetcher
        self._step = step

    def fetch(self, wanted: Sequence[WantedFile]) -> None:
        """Put every file at its destination. Raises KilnError(FETCH, ...)."""
        from kiln.fetch.model import Download  # noqa: PLC0415

        downloads = [
            Download(entry.path, entry.mirror, entry.digest, entry.size_bytes, entry.destination) for entry in wanted
        ]
        with self._open() as fetcher:
            fetcher.download_all(self._step, downloads)


@dataclass(frozen=True, slots=True)
class SourceItem:
    """A file that a build needed; *cached* means that it was in the store before."""

    checksum: str
    cached: bool


SourceReport = Mapping[str, tuple[SourceItem, ...]]
"""What was needed of each source, by its type."""


class SourceFailedError(KilnError):
    """The files of a source cannot be had. *type* is the source's; *failed* are checksums with what went wrong."""

    def __init__(self, type_: str, error: KilnError, failed: Mapping[str, str] | None = None) -> None:
        super().__init__(
            error.domain,
            error.reason,
            error.message,
            error.place,
            error.detail,
            error.hint,
            error.exit_status,
            error.retriable,
        )
        self.type = type_
        self.failed = failed or {}


def provide(
    plan: Plan, stages: Iterable[Stage], store: SourceStore, fetcher: SourceFetcher, services: SourceServices
) -> SourceReport:
    """Have every source file that *stages* read in the store. Raises KilnError; SourceFailedError names the source."""
    needed = dict.fromkeys(
        reference
        for stage in stages
        for entry in stage.inputs
        if entry.origin == ORIGIN_SOURCE
        for reference in entry.references
    )
    if not needed:
        return {}
    report: dict[str, tuple[SourceItem, ...]] = {}
    wanted: dict[str, list[WantedFile]] = {}
    for source in plan.sources:
        mine = [checksum for checksum in source.items if checksum in needed]
        for checksum in mine:
            del needed[checksum]  # the first source that has an item provides it
        there = tuple(SourceItem(checksum, cached=True) for checksum in mine if (store.files / checksum).exists())
        items = {checksum: source.items[checksum] for checksum in mine if not (store.files / checksum).exists()}
        if not items:
            fetched: tuple[SourceItem, ...] = ()
        elif _is_native(source.type, items):
            wanted[source.type] = _take(source, items, store.files)
            fetched = tuple(SourceItem(checksum, cached=False) for checksum in items)
        else:
            fetched = tuple(services.download(source, items))
        if mine:
            report[source.type] = there + fetched
    files_ = [file for entries in wanted.values() for file in entries]
    if files_:
        try:
            fetcher.fetch(files_)
        except KilnError as error:
            raise SourceFailedError(next(type_ for type_, entries in wanted.items() if entries), error) from error
    return report


def missing_files(stage: Stage, store: SourceStore) -> bool:
    """Whether *stage* reads a source file that is not in the store."""
    return any(
        not (store.files / reference).exists()
        for entry in stage.inputs
        if entry.origin == ORIGIN_SOURCE
        for reference in entry.references
    )


def _take(source: Source, items: Mapping[str, Any], directory: Path) -> list[WantedFile]:
    """Unpack what stands in the manifest; return what is to be fetched."""
    wanted = []
    for checksum, item in items.items():
        place = Place("<manifest>", path=f".sources.{source.type}.items.{checksum}")
        digest = _digest(checksum, place)
        if source.type == INLINE:
            files.write_atomic(directory / checksum, decode_inline(digest, item, place))
        else:
            wanted.append(_wanted(source.type, digest, item, directory / checksum, place))
    return wanted


def _is_native(type_: str, items: Mapping[str, Any]) -> bool:
    """Whether the engine fetches this itself; secrets, and digests that can be forged, need the libdir's program."""
    return type_ in SUPPORTED and not any(_is_foreign(type_, *entry) for entry in items.items())


def _is_foreign(type_: str, checksum: str, item: Any) -> bool:
    if type_ != CURL:
        return False
    return checksum.startswith(("md5:", "sha1:")) or (isinstance(item, Mapping) and bool(item.get("secrets")))


def sizes(plan: Plan) -> dict[str, int]:
    """Return the sizes in bytes that the manifest states for its source files."""
    return {
        checksum: item["size"]
        for source in plan.sources
        for checksum, item in source.items.items()
        if isinstance(item, Mapping) and isinstance(item.get("size"), int)
    }


def decode_inline(digest: Digest, item: Mapping[str, Any], place: Place) -> bytes:
    """Return the bytes of an inline source, verified. Raises KilnError(MANIFEST, "invalid-source")."""
    import base64  # noqa: PLC0415
    import lzma  # noqa: PLC0415

    try:
        data = base64.b64decode(item["data"], validate=True)
        if item["encoding"] == "lzma+base64":
            unpacker = lzma.LZMADecompressor()
            data = unpacker.decompress(data, MAX_INLINE_BYTES)
            if not unpacker.eof:
                raise ValueError(f"more than {MAX_INLINE_BYTES} bytes, or cut off")
        elif item["encoding"] != "base64":
            raise ValueError(f"unknown encoding {item['encoding']!r}")
    except (KeyError, TypeError, ValueError, lzma.LZMAError) as error:
        raise _invalid(place, f"the inline source cannot be decoded: {error}") from None
    found = hashlib.new(digest.algorithm, data).hexdigest()
    if found != digest.hex:
        raise _invalid(place, f"the inline source has the digest {digest.algorithm}:{found}")
    return data


def _wanted(type_: str, digest: Digest, item: Any, destination: Path, place: Place) -> WantedFile:
    if type_ == MIRROR:
        return WantedFile(digest, item["mirror"], item["path"], item.get("size"), destination)
    if isinstance(item, str):
        item = {"url": item}
    return WantedFile(digest, "", item["url"], None, destination)


def _digest(checksum: str, place: Place) -> Digest:
    try:
        return Digest.parse(checksum)
    except DigestError as error:
        hint = (
            "md5 and sha1 can be forged; lock the file by its sha256" if checksum.startswith(("md5:", "sha1:")) else ""
        )
        raise _invalid(place, str(error), hint) from None


def _invalid(place: Place, message: str, hint: str = "") -> KilnError:
    return KilnError(Domain.MANIFEST, "invalid-source", message, place=place, hint=hint, exit_status=ExitStatus.USAGE)
