"""Keyrings by file name, from the directories where distributions and administrators put them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pysequoia

from kiln.authoring.lock.openpgp import Keyring
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.linux.files import read_limited

KEYRING_DIRECTORIES: Final = (
    Path("/usr/share/keyrings"),
    Path("/etc/apt/keyrings"),
    Path("/usr/local/share/keyrings"),
)
MAX_KEYRING_BYTES: Final = 64 * 1024 * 1024
"""Debian's largest, that of its developers, has 28 MB."""
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_PACKAGES: Final = {
    "debian-archive-keyring.gpg": "debian-archive-keyring",
    "debian-archive-removed-keys.gpg": "debian-archive-keyring",
    "ubuntu-archive-keyring.gpg": "ubuntu-keyring",
    "debian-ports-archive-keyring.gpg": "debian-ports-archive-keyring",
    "kali-archive-keyring.gpg": "kali-archive-keyring",
}


class Keyrings:
    """Finds and reads keyrings; each is read once."""

    def __init__(self, settings_directories: Sequence[Path] = (), *, system: Sequence[Path] = KEYRING_DIRECTORIES):
        """Look in *settings_directories* first, then in those of the *system*."""
        self._directories = (*settings_directories, *system)
        self._read: dict[str, Keyring] = {}

    def find(self, name: str) -> Path:
        """Return the file of that name. Raises KilnError(HOST, "missing-keyring")."""
        if _FILE_NAME.fullmatch(name):
            for directory in self._directories:
                if (path := directory / name).is_file():
                    return path
        package = _PACKAGES.get(name)
        where = ", ".join(map(str, self._directories))
        raise KilnError(
            Domain.HOST,
            "missing-keyring",
            f"the keyring {name} is not on this host",
            detail=f"looked in {where}",
            hint=f"apt-get install {package}" if package else f"put it into one of {where}",
            exit_status=ExitStatus.INFRASTRUCTURE,
        )

    def load(self, name: str) -> Keyring:
        """Return the keyring of that file name. Raises KilnError(HOST): `missing-keyring`, `bad-keyring`."""
        if name not in self._read:
            self._read[name] = parse_keyring(name, read_limited(self.find(name), MAX_KEYRING_BYTES))
        return self._read[name]


def parse_keyring(name: str, data: bytes) -> Keyring:
    """Read a binary or armored keyring. Raises KilnError(HOST, "bad-keyring")."""
    try:
        certificates = tuple(pysequoia.Cert.split_bytes(data))
    except Exception as error:  # pysequoia has no exception types of its own
        certificates, problem = (), str(error).partition("\n")[0]
    else:
        problem = "it holds no certificate"
    if not certificates:
        raise KilnError(
            Domain.HOST,
            "bad-keyring",
            f"the keyring {name} cannot be read: {problem}",
            hint="a keyring is a file of OpenPGP certificates (`gpg --export`), not a GnuPG keybox",
            exit_status=ExitStatus.INFRASTRUCTURE,
        )
    return Keyring(name, certificates)
