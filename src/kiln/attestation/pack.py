"""Write a trust pack (kiln_wire.pack): one file, the same bytes for the same content."""

from __future__ import annotations

import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final

import kiln_wire
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.events.model import Progress, Sink
from kiln.linux.files import atomic_file
from kiln_wire.archive import PREFIX
from kiln_wire.canonical import canonical_json
from kiln_wire.codec import encode
from kiln_wire.digest import CHUNK_BYTES, Digest
from kiln_wire.files import DirectoryFiles, FileError
from kiln_wire.pack import IMAGE, LIST, ROOT, Pack, PackedFile

STEP: Final = "pack"
_FIRST_MOMENT: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that the format can say
_UNIX: Final = 3
_MAIN: Final = b"""import sys
from pathlib import Path

from kiln_wire.pack_main import main

if __name__ == "__main__":
    sys.exit(main(itself=Path(sys.argv[0])))
"""


@dataclass(frozen=True, slots=True)
class Written:
    """A pack that was written."""

    path: Path
    digest: Digest
    size_bytes: int
    files: int


def write_pack(image: Path, output: Path, sink: Sink, *, root: Any = None) -> Written:
    """Pack the image directory or OCI layout *image*; *root* is the trust root's document, for comparison.

    Nothing is verified here. Raises KilnError(ATTESTATION): `no-image`, `missing-evidence` (a file that can't be read).
    """
    if not image.is_dir():
        raise KilnError(
            Domain.ATTESTATION,
            "no-image",
            f"there is no directory {image}",
            hint="give an image directory that `kiln build` has made, or an OCI layout",
            exit_status=ExitStatus.NOT_FOUND,
        )
    program = _program()
    extra = {**program, **({} if root is None else {ROOT: canonical_json(root)})}
    with DirectoryFiles(image) as files:
        try:
            names = {entry.name: entry.size_bytes for entry in files.entries()}
            digests = files.digests(names)
        except FileError as error:
            raise _unreadable(image, error) from error
        listed = [PackedFile(name, Digest.of(data), len(data)) for name, data in extra.items()]
        for name, digest in digests.items():
            if not isinstance(digest, Digest):
                raise _unreadable(image, digest) from digest
            listed.append(PackedFile(IMAGE + name, digest, names[name]))
        listed.sort(key=lambda item: item.name)
        extra[LIST] = canonical_json(encode(Pack("kiln.pack/v1", image.name, tuple(listed))))
        with atomic_file(output, mode=0o755) as target:
            target.write(PREFIX)
            with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                for number, name in enumerate((LIST, *(item.name for item in listed)), start=1):
                    with _source(image, name, extra) as (source, size):
                        _store(archive, name, source, size)
                    sink.emit(Progress(STEP, number, len(listed) + 1, "files", name))
    return Written(output, Digest.of_file(output), output.stat().st_size, len(listed) + 1)


def _program() -> dict[str, bytes]:
    package = Path(kiln_wire.__file__).parent
    modules = {f"kiln_wire/{path.name}": path.read_bytes() for path in sorted(package.glob("*.py"))}
    return {"__main__.py": _MAIN, **modules}


@contextmanager
def _source(image: Path, name: str, extra: dict[str, bytes]) -> Iterator[tuple[IO[bytes], int]]:
    if name in extra:
        yield BytesIO(extra[name]), len(extra[name])
        return
    path = image / name.removeprefix(IMAGE)
    with path.open("rb") as file:
        yield file, path.stat().st_size


def _store(archive: zipfile.ZipFile, name: str, source: IO[bytes], size: int) -> None:
    info = zipfile.ZipInfo(name, _FIRST_MOMENT)
    info.create_system = _UNIX
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = size
    with archive.open(info, "w", force_zip64=size >= zipfile.ZIP64_LIMIT) as entry:
        shutil.copyfileobj(source, entry, CHUNK_BYTES)


def _unreadable(image: Path, error: FileError) -> KilnError:
    return KilnError(
        Domain.ATTESTATION,
        "missing-evidence",
        f"{image / error.name} {error.problem}",
        hint="`kiln verify` says what is wrong with the directory",
    )
