"""Which packages: the real apt, asked in a private room, and its answer looked up in the verified indexes."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote

from kiln.authoring.lock.apt_explanation import no_solution
from kiln.authoring.lock.apt_room import AptRoom, archive_uri
from kiln.authoring.lock.indexes import ReadIndex
from kiln.authoring.lock.names import PACKAGE_NAME
from kiln.authoring.lock.packages import PackageRecord, Universe
from kiln.errors import Domain, ExitStatus, KilnError, disk_full
from kiln.linux import locks, process
from kiln.linux.files import write_if_changed

SOLVE_TIMEOUT_SECONDS: Final = 600.0
PINS: Final = "etc/pins"
"""Below the room, written for each question."""


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """What a tree must have and must not have, by package name."""

    tree: str
    wanted: tuple[str, ...]
    excluded: tuple[str, ...] = ()
    recommends: bool = False
    pins: tuple[tuple[str, str], ...] = ()
    """Name and version of packages for which this version is preferred to any other, as far as an index has it."""


class Solver(Protocol):
    """Chooses packages."""

    def solve(self, universe: Universe, indexes: Sequence[ReadIndex], request: SolveRequest) -> list[PackageRecord]:
        """Return a set of packages in which every dependency is met, starting from an empty system.

        Raises KilnError(LOCK): `unknown-package`, `no-solution`.
        """


class AptSolver:
    """apt-get's own resolver, without network, root, or anything of the host's configuration and state."""

    def __init__(self, rooms: Path, architecture: str, *, program: str = "apt-get") -> None:
        """Keep the private rooms below *rooms*; *program* is for tests that wrap apt-get."""
        self._rooms = rooms
        self._architecture = architecture
        self._program = program

    def solve(self, universe: Universe, indexes: Sequence[ReadIndex], request: SolveRequest) -> list[PackageRecord]:
        """Return apt's choice. Raises KilnError(LOCK): `unknown-package`, `no-solution`; (HOST): `missing-tool`."""
        check_names(universe, request)
        room = AptRoom(self._rooms, indexes, self._architecture)
        # --print-uris resolves as --simulate does, and leaves out the simulated unpacking, which takes three times
        # as long as the answer. A trailing minus removes; `check_names` saw to it that no wanted name has one.
        argv = [self._program, "-q", "-y", "--print-uris"]
        pins = _preferences(request.pins)
        if pins:
            argv += ["-o", f"Dir::Etc::preferences={room.path / PINS}"]
        argv += ["-o", f"APT::Install-Recommends={str(request.recommends).lower()}", "install", "--"]
        argv += sorted(set(request.wanted)) + [f"{name}-" for name in sorted(set(request.excluded))]
        with locks.exclusive(self._rooms / "lock"):
            room.prepare()
            write_if_changed(room.path / PINS, pins)
            done = process.run(
                argv,
                env=room.environment(),
                cwd=room.path,
                check=False,
                timeout_seconds=SOLVE_TIMEOUT_SECONDS,
            )
        output, errors = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
        if done.status != 0 and os.strerror(errno.ENOSPC) in errors:
            raise disk_full(room.path, Domain.LOCK)
        if done.status != 0:
            raise no_solution(request.tree, request.excluded, output, errors)
        return [_look_up(universe, indexes, line) for line in output.splitlines() if line.startswith("'")]


def _preferences(pins: tuple[tuple[str, str], ...]) -> bytes:
    """Return the text of apt_preferences(5); a priority above 1000 wins even where the version is older."""
    return "".join(
        f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n\n" for name, version in pins
    ).encode()


def check_names(universe: Universe, request: SolveRequest) -> None:
    """Refuse names that no index has, before apt could take them for patterns, versions or removals.

    Raises KilnError(LOCK, "unknown-package") with the nearest names, (LOCK, "no-solution") for a virtual package
    that several provide.
    """
    for name in sorted({*request.wanted, *request.excluded}):
        if PACKAGE_NAME.fullmatch(name) and universe.has(name):
            continue
        providers = universe.providers(name) if PACKAGE_NAME.fullmatch(name) else ()
        if len(providers) == 1:
            continue
        if providers:
            raise KilnError(
                Domain.LOCK,
                "no-solution",
                f"`{name}` is a virtual package: {len(providers)} packages provide it",
                detail="\n".join(providers),
                hint=f"ask for one of them, such as `{providers[0]}`",
            )
        near = universe.suggestions(name)
        raise KilnError(
            Domain.LOCK,
            "unknown-package",
            f"no index has a package `{name}`",
            hint=f"did you mean {' or '.join(f'`{other}`' for other in near)}?" if near else "is its archive missing?",
            exit_status=ExitStatus.USAGE,
        )


def _look_up(universe: Universe, indexes: Sequence[ReadIndex], line: str) -> PackageRecord:
    """Return the verified record for a line `'<URI>' <name>_<version>_<architecture>.deb <size> <hash>`."""
    uri, _, rest = line[1:].partition("' ")
    parts = rest.split(" ", 1)[0].removesuffix(".deb").split("_")
    if len(parts) == 3:
        name, version, architecture = (unquote(part) for part in parts)
        location = unquote(uri)
        for record in universe.records(name):
            if (
                (record.version, record.architecture) == (version, architecture)
                and location == f"{archive_uri(record.mirror)}/{record.path}"
            ):  # fmt: skip
                return record
    # The indexes that apt read are the ones that `universe` was made from.
    raise AssertionError(f"apt chose what no index has: {line!r}")
