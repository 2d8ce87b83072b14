"""A private room for apt: configuration, indexes and state of its own, nothing of the host's.

apt reads the file that APT_CONFIG names before any other; that file moves every directory below the room, so that
neither /etc/apt nor /var/lib/dpkg is ever opened. The indexes are put where `apt-get update` would have put them,
from bytes that were verified; the sources point to `file:` paths that do not exist, so that there is nothing apt
could fetch. The room is kept, because apt's parsed cache of unchanged indexes saves half a second.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from kiln.authoring.lock.indexes import ReadIndex
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux.files import write_atomic, write_if_changed
from kiln.linux.process import allowed_environment
from kiln_wire.digest import Digest

ARCHIVE_ROOT: Final = "/kiln-archive"
"""What the sources name in the place of a mirror's root; nothing is there."""
ROOMS_KEPT: Final = 4
"""A room has 40 MB for a whole Debian suite."""
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*(?:/[A-Za-z0-9][A-Za-z0-9.+_-]*)*")

_CONFIGURATION: Final = """\
Dir "{room}";
Dir::Etc "etc";
Dir::Etc::main "apt.conf";
Dir::Etc::parts "parts";
Dir::Etc::sourcelist "sources.list";
Dir::Etc::sourceparts "parts";
Dir::Etc::preferences "preferences";
Dir::Etc::preferencesparts "parts";
Dir::Etc::trusted "trusted.gpg";
Dir::Etc::trustedparts "parts";
Dir::Etc::netrc "auth.conf";
Dir::Etc::netrcparts "parts";
Dir::State "state";
Dir::State::lists "lists";
Dir::State::status "{room}/state/status";
Dir::State::extended_states "extended_states";
Dir::Cache "cache";
Dir::Cache::srcpkgcache "";
Dir::Log "/dev/null";
Dir::Bin::dpkg "/bin/false";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Solver "internal";
APT::Planner "internal";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
Debug::NoLocking "true";
"""
# Dir::Bin::dpkg: apt would ask the host's dpkg for foreign architectures. Solver: apt 3 has a second one, which
# answers differently. NoLocking: the room is locked by its user, and apt's own lock wants a real archive directory.


class AptRoom:
    """The directory of one set of indexes for one architecture."""

    def __init__(self, root: Path, indexes: Sequence[ReadIndex], architecture: str) -> None:
        """Name the room below *root* by what is in it; nothing is written before `prepare`."""
        self._indexes = indexes
        self._architecture = _word(architecture)
        # resolve(): apt would take a relative path as one below its own root directory.
        self.path = root.resolve() / f"{self._key()}"
        if any(char in '"\\;{}\n' for char in str(self.path)):
            raise KilnError(
                Domain.HOST,
                "bad-path",
                f"apt cannot work in {self.path}: its configuration has no spelling for some of these characters",
                hint="choose a cache directory without quotes, backslashes, semicolons and braces",
                exit_status=ExitStatus.INFRASTRUCTURE,
            )

    def environment(self) -> Mapping[str, str]:
        """Return the environment that makes apt use this room."""
        return allowed_environment({"APT_CONFIG": str(self.path / "etc" / "first.conf"), "TMPDIR": str(self.path)})

    def prepare(self) -> None:
        """Write what is not there yet, put the verified indexes in place, and remove rooms of the past."""
        for name in ("etc/parts", "state/lists/partial", "cache/archives/partial"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        configuration = _CONFIGURATION.format(room=self.path, architecture=self._architecture)
        files = {
            "etc/first.conf": configuration,
            "etc/apt.conf": "",
            "etc/sources.list": "".join(map(_source_lines, self._indexes)),
            "etc/preferences": "",
            "state/status": "",
            "state/extended_states": "",
        }
        for name, content in files.items():
            write_if_changed(self.path / name, content.encode("utf-8"))
        lists = self.path / "state" / "lists"
        wanted = {"partial"}
        for index in self._indexes:
            name = list_name(index, "Release")
            wanted.add(name)
            write_if_changed(lists / name, index.signed.text)
            for file in index.files:
                name = list_name(index, file.path)
                wanted.add(name)
                _place(file.cached, lists / name, file.data)
        for path in lists.iterdir():
            if path.name not in wanted:
                path.unlink()
        os.utime(self.path)
        self._remove_old()

    def _key(self) -> str:
        words = [self._architecture]
        for index in self._indexes:
            words += [str(index.signed.name), str(index.signed.digest), *index.components]
            words += [f"{file.path} {file.digest}" for file in index.files]
        return Digest.of("\n".join(words).encode("utf-8")).hex[:32]

    def _remove_old(self) -> None:
        rooms = [path for path in self.path.parent.iterdir() if path.is_dir()]
        for path in sorted(rooms, key=lambda path: path.stat().st_mtime_ns, reverse=True)[ROOMS_KEPT:]:
            shutil.rmtree(path)


def archive_uri(mirror: str) -> str:
    """Return the URI that stands for a mirror's root inside the room."""
    return f"file:{ARCHIVE_ROOT}/{_word(mirror)}"


def list_name(index: ReadIndex, path: str) -> str:
    """Return the name that apt gives a file of a suite in its lists directory (apt's URItoFileName)."""
    name = index.signed.name
    full = f"{ARCHIVE_ROOT}/{_word(name.mirror)}/dists/{_word(name.suite)}/{path}"
    return full.replace("_", "%5f").replace("/", "_")


def _source_lines(index: ReadIndex) -> str:
    name = index.signed.name
    components = " ".join(map(_word, index.components))
    return f"deb [trusted=yes] {archive_uri(name.mirror)} {_word(name.suite)} {components}\n"


def _word(text: str) -> str:
    """Return *text* if it cannot be read as anything but one word of apt's configuration."""
    if not _WORD.fullmatch(text):
        raise KilnError(
            Domain.LOCK,
            "bad-name",
            f"{text!r} cannot name a mirror, suite, component or architecture",
            hint="use letters, digits, dots, plus and minus signs, underscores and slashes",
            exit_status=ExitStatus.USAGE,
        )
    return text


def _place(cached: Path, destination: Path, data: bytes) -> None:
    if destination.exists() and destination.samefile(cached):
        return
    destination.unlink(missing_ok=True)
    try:
        destination.hardlink_to(cached)
    except OSError:  # another file system, or one without hard links
        write_atomic(destination, data)
