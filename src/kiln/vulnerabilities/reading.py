"""Advisories out of folders, archives and files, one after the other, however large the file is.

What a file holds is seen from its first keys: an OSV document or an array of them, the Debian security tracker's
export, a page of NVD's API, an array of GitHub's API. Nothing is unpacked to disk, and nothing larger than one
advisory is held in memory.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Literal

from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln.linux.files import read_limited
from kiln.vulnerabilities.imports import read_github, read_nvd, read_tracker_package
from kiln.vulnerabilities.model import Advisory
from kiln.vulnerabilities.osv import AdvisoryError, read_osv
from kiln_wire.canonical import CanonicalError, strict_loads

MAX_DOCUMENT_BYTES: Final = 32 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 16 * 1024**3
"""Of a compressed file, or of all members of an archive together: a small file must not keep us busy for ever."""
MAX_MEMBERS: Final = 2_000_000
_SUFFIXES: Final = (".json", ".json.gz", ".json.xz", ".json.bz2", ".zip")
_PACKED: Final = (".gz", ".xz", ".bz2")

_OSV_KEYS: Final = ("schema_version", "id", "modified", "aliases", "affected")

Shape = Literal["osv", "osv-array", "tracker", "nvd", "github"]


def read_advisories(path: Path, on_file: Callable[[str], None] = lambda name: None) -> Iterator[Advisory]:
    """Yield every advisory of a file, or of all files below a folder, in the order of their names.

    Raises KilnError(VULNERABILITY) `no-advisories`, or `bad-advisory` with the file and the place in it.
    """
    if not path.exists():
        raise KilnError(
            Domain.VULNERABILITY,
            "no-advisories",
            f"there is no {path}",
            hint="give a folder, a checkout, a .json or a .zip file of advisories",
            exit_status=ExitStatus.NOT_FOUND,
        )
    files = [path] if path.is_file() else sorted(_below(path))
    if not files:
        raise KilnError(
            Domain.VULNERABILITY,
            "no-advisories",
            f"{path} holds no file that ends in {', '.join(_SUFFIXES)}",
            hint="give the folder of an OSV export, or a checkout of an advisory database",
            exit_status=ExitStatus.NOT_FOUND,
        )
    for file in files:
        on_file(str(file))
        with _garbled(str(file)):
            yield from _archive(file) if zipfile.is_zipfile(file) else _file(file)


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.name.endswith(_SUFFIXES) and not hidden and path.is_file() and not path.is_symlink():
            yield path


def _file(path: Path) -> Iterator[Advisory]:
    if path.suffix not in _PACKED and path.stat().st_size <= MAX_DOCUMENT_BYTES:
        data = read_limited(path, MAX_DOCUMENT_BYTES)
        document = strict_loads(data, max_bytes=MAX_DOCUMENT_BYTES)
        if _shape_of(document) == "osv":
            yield read_osv(document)
            return
    with _opened(path) as file:
        shape = _shape(_Bounded(file))
    with _opened(path) as file:
        yield from _stream(_Bounded(file), shape)


def _archive(path: Path) -> Iterator[Advisory]:
    """Each member is one OSV document, as in the archives that OSV publishes for each ecosystem."""
    left = MAX_UNPACKED_BYTES
    with zipfile.ZipFile(path) as archive:
        members = sorted(
            (item for item in archive.infolist() if item.filename.endswith(".json")), key=lambda item: item.filename
        )
        if len(members) > MAX_MEMBERS:
            raise AdvisoryError(str(path), f"more than {MAX_MEMBERS} members")
        for member in members:
            place = f"{path}!{member.filename}"
            with _garbled(place), archive.open(member) as file:
                data = file.read(MAX_DOCUMENT_BYTES + 1)
                left -= len(data)
                if left < 0:
                    raise AdvisoryError("$", f"the archive unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                yield read_osv(strict_loads(data, max_bytes=MAX_DOCUMENT_BYTES))


@contextmanager
def _garbled(place: str) -> Iterator[None]:
    """Turn whatever is wrong with a file into one refusal that names it."""
    try:
        yield
    except AdvisoryError as error:
        raise _bad(place, error.path, error.problem) from None
    except (CanonicalError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise _bad(place, "", str(error)) from None
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile) or error.errno is None:
            raise _bad(place, "", str(error)) from None
        raise
    except ValueError as error:  # ijson's errors, of the C and of the Python backend
        raise _bad(place, "", f"not valid JSON: {error}") from None


def _bad(place: str, path: str, problem: str) -> KilnError:
    return KilnError(
        Domain.VULNERABILITY,
        "bad-advisory",
        f"an advisory is refused: {problem}",
        place=Place(place, path=path),
        hint="the database was left as it is; fetch the file again, or take it out of the source",
        exit_status=ExitStatus.REFUSED,
    )


def _opened(path: Path) -> IO[bytes]:
    """Open a file, unpacked as its suffix says."""
    packed: Any = {".gz": gzip, ".xz": lzma, ".bz2": bz2}.get(path.suffix)
    opened: IO[bytes] = path.open("rb") if packed is None else packed.open(path, "rb")
    return opened


class _Bounded:
    """A stream that refuses to go on for ever."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = MAX_UNPACKED_BYTES

    def read(self, size: int = -1) -> bytes:
        """Return the next piece. Raises AdvisoryError beyond the limit."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise AdvisoryError("$", f"it unpacks to more than {MAX_UNPACKED_BYTES} bytes")
        return data


def _shape_of(document: Any) -> Shape | None:
    return "osv" if isinstance(document, dict) and {"id", "modified"} <= document.keys() else None


def _shape(stream: _Bounded) -> Shape:
    """Say what a stream holds, from its first few events."""
    import ijson  # noqa: PLC0415 - only an import of advisories needs it

    previous = ""
    for prefix, event, value in ijson.parse(stream):
        if prefix == "" and event == "map_key":
            if value in _OSV_KEYS:
                return "osv"
            if value == "vulnerabilities":
                return "nvd"
            previous = value
        elif prefix == "item" and event == "map_key":
            return "osv-array" if value in _OSV_KEYS else "github"
        elif prefix == previous and event == "map_key" and str(value).startswith(("CVE-", "TEMP-")):
            return "tracker"
    raise AdvisoryError("$", "neither OSV, nor the security tracker's export, nor NVD's or GitHub's API")


def _stream(stream: _Bounded, shape: Shape) -> Iterator[Advisory]:
    import ijson  # noqa: PLC0415

    if shape == "tracker":
        for package, entries in ijson.kvitems(stream, "", use_float=True):
            yield from read_tracker_package(package, entries)
        return
    prefix = {"osv": "", "osv-array": "item", "nvd": "vulnerabilities.item", "github": "item"}[shape]
    for number, item in enumerate(ijson.items(stream, prefix, use_float=True)):
        match shape:
            case "osv" | "osv-array":
                yield read_osv(item)
            case "nvd":
                yield read_nvd(item, f"$.vulnerabilities[{number}]")
            case "github":
                yield read_github(item, f"$[{number}]")
