"""What a build will give and cost, without building: packages, sizes, ports, users, services, minutes, cache hits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kiln.authoring.catalog.model import Resolution
from kiln.authoring.lock.closure import closure
from kiln.authoring.lock.document import read_lock
from kiln.authoring.lock.indexes import IndexReader
from kiln.authoring.lock.keyrings import Keyrings
from kiln.authoring.lock.lock import image_roots
from kiln.authoring.lock.packages import PackagesFile, Universe
from kiln.control_plane.road.author import ARCHITECTURE
from kiln.events.model import Sink
from kiln.linux.files import read_limited
from kiln_wire import layout

if TYPE_CHECKING:
    from kiln.control_plane.settings import Settings

KIND: Final = "kiln.preview/v1"
SOURCES: Final = "sources/org.osbuild.files"
DOWNLOAD_BYTES_PER_SECOND: Final = 20_000_000
UNPACK_BYTES_PER_SECOND: Final = 12_000_000
"""Of installed size: unpacking, configuring, and writing both forms of the image; measured on two shared processors."""
FIXED_SECONDS: Final = 40.0
BOOT_SECONDS: Final = 60.0
SQUASHFS_SHARE: Final = 0.42
"""Of the installed size, with zstd; measured over the images of docs/features.md."""
MAX_LOCK_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Figures:
    """The sizes of an image; *packages* is a number."""

    packages: int
    download_bytes: int
    installed_bytes: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What is expected. *actual* is of the image directory's last build, if there was one."""

    name: str
    base: str
    expected: Figures
    squashfs_bytes: int
    disk_bytes: int
    cached_packages: int
    """How many of the packages need no download."""
    minutes: float
    ports: tuple[str, ...]
    users: tuple[str, ...]
    services: tuple[str, ...]
    actual: Figures | None


def preview(
    resolution: Resolution, settings: Settings, sink: Sink, now: datetime, directory: Path | None = None
) -> Preview:
    """Return what building *resolution* will give. Raises KilnError(LOCK, FETCH, HOST) where indexes cannot be read."""
    # Here, because most commands need no HTTP client.
    from kiln.fetch.client import Fetcher  # noqa: PLC0415
    from kiln.fetch.mirrors import Mirrors  # noqa: PLC0415

    with Fetcher(Mirrors.of_this_machine(dict(settings.mirrors)), sink) as fetcher:
        reader = IndexReader(fetcher, Keyrings(settings.keyrings), settings.cache, sink, now)
        indexes = reader.read(resolution.base.mirrors, ARCHITECTURE)
    universe = Universe(
        PackagesFile(file.data, mirror=index.signed.name.mirror, suite=index.signed.name.suite, path=file.path)
        for index in indexes
        for file in index.files
    )
    roots = image_roots(resolution, universe.essential_names())
    found = closure(universe, [root.package for root in roots], frozenset(resolution.excluded_packages))
    sources = settings.store / SOURCES
    cached = [record for record in found if (sources / str(record.digest)).exists()]
    missing_bytes = sum(record.size_bytes for record in found) - sum(record.size_bytes for record in cached)
    installed = sum(record.installed_size_bytes for record in found)
    seconds = missing_bytes / DOWNLOAD_BYTES_PER_SECOND + installed / UNPACK_BYTES_PER_SECOND
    return Preview(
        name=resolution.name,
        base=resolution.base.id,
        expected=Figures(len(found), sum(record.size_bytes for record in found), installed),
        squashfs_bytes=int(installed * SQUASHFS_SHARE),
        disk_bytes=resolution.disk_bytes,
        cached_packages=len(cached),
        minutes=round((seconds + FIXED_SECONDS + BOOT_SECONDS) / 60, 1),
        ports=tuple(f"{wish.port}/{wish.protocol}{'' if wish.exposed else ' (local)'}" for wish in resolution.ports),
        users=tuple(wish.name for wish in resolution.users),
        services=tuple(wish.unit for wish in resolution.services if wish.state == "enabled"),
        actual=_actual(directory / layout.LOCK) if directory is not None else None,
    )


def _actual(path: Path) -> Figures | None:
    try:
        lock = read_lock(read_limited(path, MAX_LOCK_BYTES), str(path))
    except FileNotFoundError:
        return None
    packages = lock.tree("image").packages
    return Figures(
        len(packages),
        sum(package.size_bytes for package in packages),
        sum(package.installed_size_bytes for package in packages),
    )
