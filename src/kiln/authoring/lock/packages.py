"""Packages files: what an archive offers, found by name without reading every stanza.

A suite has 64,000 stanzas, of which a lock needs some hundred. Splitting the file and taking each stanza's first
line costs a tenth of a second; a stanza is parsed when somebody asks for its package.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from rapidfuzz import fuzz, process

from kiln.authoring.lock.deb822 import StanzaError, parse_stanza
from kiln.authoring.lock.names import ARCHITECTURE, PACKAGE_NAME, VERSION, is_plain_path
from kiln.authoring.lock.relations import Clause, RelationError, parse_relations
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln_wire.digest import Digest

KIBIBYTE: Final = 1024
SUGGESTIONS: Final = 3
SUGGESTION_SCORE: Final = 75.0
"""Of rapidfuzz's 100; below it, names have little in common."""
_FIRST_FIELD: Final = b"Package: "
_SOURCE: Final = re.compile(r"(?P<name>\S+)(?:\s+\((?P<version>[^\s)]+)\))?")


@dataclass(frozen=True, slots=True)
class PackageRecord:
    """One stanza: what a lock needs of it, and where it was read."""

    name: str
    version: str
    architecture: str
    mirror: str
    suite: str
    path: str
    size_bytes: int
    digest: Digest
    source: str
    source_version: str
    installed_size_bytes: int
    essential: bool
    priority: str
    depends: tuple[Clause, ...]
    """Pre-Depends and Depends."""
    recommends: tuple[Clause, ...]
    provides: tuple[Clause, ...]


class PackagesFile:
    """One Packages file of a suite. Raises KilnError(LOCK, "malformed-index") where it cannot be read."""

    def __init__(self, data: bytes, *, mirror: str, suite: str, path: str) -> None:
        """Take the file's bytes; *path* is its place below the suite, for messages."""
        self.mirror = mirror
        self.suite = suite
        self._place = f"{mirror}:dists/{suite}/{path}"
        self._stanzas: dict[str, list[bytes]] = {}
        self._read: dict[str, tuple[PackageRecord, ...]] = {}
        for stanza in data.split(b"\n\n"):
            if name := self._stanza_name(stanza):
                self._stanzas.setdefault(name, []).append(stanza)
        self._provides: dict[str, set[str]] | None = None

    def __len__(self) -> int:
        return sum(len(stanzas) for stanzas in self._stanzas.values())

    def __iter__(self) -> Iterator[PackageRecord]:
        """Read every stanza (a second for a whole suite)."""
        for name in self._stanzas:
            yield from self.records(name)

    @property
    def names(self) -> Iterable[str]:
        """The names of the packages that are there."""
        return self._stanzas.keys()

    @property
    def essential(self) -> frozenset[str]:
        """The names of the packages that every system must have."""
        return frozenset(
            name
            for name, stanzas in self._stanzas.items()
            if any(b"\nEssential: yes" in stanza for stanza in stanzas)
            and any(record.essential for record in self.records(name))
        )

    def with_priority(self, priority: str) -> frozenset[str]:
        """Return the names of the packages of one priority (Debian policy, section 2.5)."""
        line = re.compile(rb"^Priority: " + priority.encode("ascii") + rb"$", re.MULTILINE)
        return frozenset(name for name, stanzas in self._stanzas.items() if any(map(line.search, stanzas)))

    def records(self, name: str) -> tuple[PackageRecord, ...]:
        """Return all versions of a package, in the file's order; empty where there is none."""
        if name not in self._read:
            self._read[name] = tuple(self._record(stanza) for stanza in self._stanzas.get(name, ()))
        return self._read[name]

    def providers(self, virtual: str) -> frozenset[str]:
        """Return the names of the packages that provide *virtual*."""
        if self._provides is None:
            self._provides = {}
            for name, stanzas in self._stanzas.items():
                if any(b"\nProvides:" in stanza for stanza in stanzas):
                    for provision in itertools.chain.from_iterable(record.provides for record in self.records(name)):
                        self._provides.setdefault(provision[0].name, set()).add(name)
        return frozenset(self._provides.get(virtual, ()))

    def _stanza_name(self, stanza: bytes) -> str:
        """Return the stanza's package; every archive generator writes that field first."""
        if stanza.startswith(b"\n"):
            stanza = stanza.lstrip(b"\n")
        if stanza.startswith(_FIRST_FIELD):
            end = stanza.find(b"\n")
            return stanza[len(_FIRST_FIELD) : end if end >= 0 else None].decode("utf-8", "replace").strip()
        if not stanza.strip():
            return ""
        return self._fields(stanza).get("package", "")

    def _fields(self, stanza: bytes) -> dict[str, str]:
        try:
            return parse_stanza(stanza.decode("utf-8"))
        except (StanzaError, UnicodeDecodeError) as error:
            raise self._malformed(f"a stanza cannot be read: {error}", "") from None

    def _record(self, stanza: bytes) -> PackageRecord:
        fields = self._fields(stanza)
        name = fields.get("package", "")
        try:
            return _record(fields, self.mirror, self.suite)
        except KeyError as error:
            raise self._malformed(f"the package {name} has no field {error.args[0]}", name) from None
        except (ValueError, RelationError) as error:
            raise self._malformed(f"the package {name} is malformed: {error}", name) from None

    def _malformed(self, problem: str, name: str) -> KilnError:
        return KilnError(
            Domain.LOCK,
            "malformed-index",
            f"the index is refused: {problem}",
            place=Place(self._place, path=name),
            hint="the archive's own index is wrong; tell its maintainers, or use another mirror",
            exit_status=ExitStatus.REFUSED,
        )


class Universe:
    """All packages that the indexes of a base offer, first index first."""

    def __init__(self, files: Iterable[PackagesFile]) -> None:
        self.files = tuple(files)

    def essential_names(self) -> tuple[str, ...]:
        """Return the names of the packages marked `Essential: yes`, sorted."""
        return tuple(sorted(frozenset().union(*(file.essential for file in self.files))))

    def with_priority(self, *priorities: str) -> tuple[str, ...]:
        """Return the names of the packages of these priorities, sorted."""
        found = [file.with_priority(priority) for file in self.files for priority in priorities]
        return tuple(sorted(frozenset().union(*found)))

    def records(self, name: str) -> tuple[PackageRecord, ...]:
        """Return every record of that name, in the order of the indexes."""
        return tuple(record for file in self.files for record in file.records(name))

    def find(self, name: str, version: str, architecture: str) -> PackageRecord | None:
        """Return the first record of exactly that package."""
        for record in self.records(name):
            if record.version == version and record.architecture == architecture:
                return record
        return None

    def has(self, name: str) -> bool:
        """Whether there is a package of that name (not one that only provides it)."""
        return any(name in file.names for file in self.files)

    def providers(self, virtual: str) -> tuple[str, ...]:
        """Return the names of the packages that provide *virtual*, sorted."""
        return tuple(sorted(frozenset().union(*(file.providers(virtual) for file in self.files))))

    def suggestions(self, name: str) -> tuple[str, ...]:
        """Return the nearest names that exist, best first."""
        names = sorted({known for file in self.files for known in file.names})
        found = process.extract(
            name.lower(), names, scorer=fuzz.ratio, limit=SUGGESTIONS, score_cutoff=SUGGESTION_SCORE
        )
        return tuple(known for known, _score, _index in found)


def _record(fields: dict[str, str], mirror: str, suite: str) -> PackageRecord:
    name, version, architecture = fields["package"], fields["version"], fields["architecture"]
    for value, form, what in (
        (name, PACKAGE_NAME, "name"),
        (version, VERSION, "version"),
        (architecture, ARCHITECTURE, "architecture"),
    ):
        if not form.fullmatch(value):
            raise ValueError(f"{value[:80]!r} is not a {what}")
    source = _SOURCE.fullmatch(fields.get("source", "") or name)
    if source is None:
        raise ValueError(f"{fields['source'][:80]!r} is not a source package")
    path = fields["filename"].removeprefix("./")
    if not is_plain_path(path):
        raise ValueError(f"the path {path[:80]!r} leads out of the archive")
    return PackageRecord(
        name=name,
        version=version,
        architecture=architecture,
        mirror=mirror,
        suite=suite,
        path=path,
        size_bytes=_number(fields["size"]),
        digest=Digest("sha256", fields["sha256"].lower()),
        source=source["name"],
        source_version=source["version"] or version,
        installed_size_bytes=_number(fields.get("installed-size", "") or "0") * KIBIBYTE,
        essential=fields.get("essential", "no") == "yes",
        priority=fields.get("priority", ""),
        depends=parse_relations(fields.get("pre-depends", "")) + parse_relations(fields.get("depends", "")),
        recommends=parse_relations(fields.get("recommends", "")),
        provides=parse_relations(fields.get("provides", "")),
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise ValueError(f"{text[:40]!r} is not a size")
    return int(text)
