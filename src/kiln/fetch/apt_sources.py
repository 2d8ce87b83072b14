"""Where this machine's own apt configuration finds its archives.

Kiln writes no host name anywhere; an archive has a logical name, and the machine (or the settings) says which base
URLs stand for it. The rule: the settings first; else every apt source whose URI's last path component is the
logical name, so that `…/debian-security` is `debian-security`.

The parser reads both formats of sources.list(5), one line per source (`*.list`) and deb822 stanzas (`*.sources`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NoReturn
from urllib.parse import unquote, urlsplit

from kiln.errors import Domain, ExitStatus, KilnError, Place

SourceType = Literal["deb", "deb-src"]

MAX_FILE_BYTES: Final = 1024 * 1024
"""A sources file has some hundred bytes; more is not one."""
SOURCES_DIRECTORY: Final = "etc/apt/sources.list.d"
SOURCES_LIST: Final = "etc/apt/sources.list"
# sources.list(5): apt silently ignores files whose names hold other characters.
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+\.(?:list|sources)")
_OPTION: Final = re.compile(r"(?P<name>[A-Za-z]+(?:-[A-Za-z]+)*)(?P<change>[+-]?)=(?P<value>\S*)")
# The one-line names are short; deb822 has `Architectures` and, for `arch+=` and `arch-=`, fields of their own.
_DEB822_NAMES: Final = {"arch": "architectures", "lang": "languages", "target": "targets"}
_DEB822_CHANGES: Final = {"": "", "+": "-add", "-": "-remove"}
_KNOWN_TYPES: Final = ("deb", "deb-src")
_SCHEMES: Final = ("http", "https")
_FALSE: Final = ("no", "false", "without", "off", "disable", "0")  # apt's StringToBool


@dataclass(frozen=True, slots=True)
class AptSource:
    """One enabled source: every suite and component at every URI."""

    types: tuple[SourceType, ...]
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    """Empty for a flat archive, whose suites end with a slash."""
    architectures: tuple[str, ...]
    """Empty where the source does not restrict them."""
    signed_by: tuple[str, ...]
    """Paths of keyrings and fingerprints, as written; empty where the key is inline or not named."""
    signed_by_key: str
    """An inline OpenPGP key block, else empty."""
    options: tuple[tuple[str, str], ...]
    """The other options, with lower-case names in deb822 spelling (`trusted`), sorted."""
    file: str
    line: int
    """Where the source begins, from 1."""


def apt_mirrors(root: Path = Path("/")) -> dict[str, tuple[str, ...]]:
    """Return logical name -> base URLs (without a slash at the end) of the apt sources below *root*.

    Only HTTP and HTTPS sources of binary packages count. Raises KilnError(HOST, "bad-apt-sources").
    """
    return mirrors_of(read_apt_sources(root))


def mirrors_of(sources: Iterable[AptSource]) -> dict[str, tuple[str, ...]]:
    """Return logical name -> base URLs, in the order of the sources."""
    found: dict[str, dict[str, None]] = {}
    for source in sources:
        if "deb" not in source.types:
            continue
        for uri in source.uris:
            parts = urlsplit(uri)
            name = unquote(parts.path.rstrip("/").rpartition("/")[2])
            if parts.scheme in _SCHEMES and parts.netloc and name:
                found.setdefault(name, {})[uri.rstrip("/")] = None
    return {name: tuple(uris) for name, uris in found.items()}


def read_apt_sources(root: Path = Path("/")) -> tuple[AptSource, ...]:
    """Return the sources that apt would read below *root*, in apt's order.

    Raises KilnError(HOST, "bad-apt-sources") for a file that apt would refuse too.
    """
    files = [root / SOURCES_LIST]
    directory = root / SOURCES_DIRECTORY
    if directory.is_dir():
        files += sorted(path for path in directory.iterdir() if _FILE_NAME.fullmatch(path.name))
    sources: list[AptSource] = []
    for path in files:
        if not path.is_file():
            continue
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode("utf-8", "replace")
        sources += parse_apt_sources(text, str(path))
    return tuple(sources)


def parse_apt_sources(text: str, file: str) -> tuple[AptSource, ...]:
    """Read one file of apt's configuration; a *file* that ends with `.sources` holds deb822 stanzas.

    Disabled sources are left out. Raises KilnError(HOST, "bad-apt-sources") with the line.
    """
    # Only \n ends a line for apt; splitlines() would also split at form feeds and Unicode separators.
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return tuple(_deb822(lines, file) if file.endswith(".sources") else _one_line(lines, file))


def _one_line(lines: list[str], file: str) -> Iterator[AptSource]:
    for number, line in enumerate(lines, 1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        kind, rest = (*content.split(None, 1), "")[:2]
        options: dict[str, str] = {}
        if rest.startswith("["):
            inside, closed, rest = rest[1:].partition("]")
            if not closed:
                _refuse(file, number, "the options have no closing bracket")
            options = _options(inside, file, number)
        words = _words(rest)
        if kind not in _KNOWN_TYPES:
            _refuse(file, number, f"`{kind}` is neither deb nor deb-src")
        if len(words) < 2:
            _refuse(file, number, "a source has a type, a URI and a suite")
        values = {"types": kind, "uris": words[0], "suites": words[1], "components": " ".join(words[2:]), **options}
        yield _source(values, file, number)


def _words(text: str) -> list[str]:
    """Split at white space; `cdrom:[a name with spaces]/` is one word."""
    return re.findall(r"(?:\[[^\]]*\]|[^\s\[])+|\[", text)


def _options(text: str, file: str, number: int) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in text.split():
        match = _OPTION.fullmatch(word)
        if match is None:
            _refuse(file, number, f"`{word}` is not an option of the form name=value")
        name = match["name"].lower()
        options[_DEB822_NAMES.get(name, name) + _DEB822_CHANGES[match["change"]]] = match["value"].replace(",", " ")
    return options


def _deb822(lines: list[str], file: str) -> Iterator[AptSource]:
    values: dict[str, str] = {}
    start, last = 0, ""
    for number, line in enumerate([*lines, ""], 1):
        if line.startswith("#"):
            continue
        if not line.strip():
            if values and values.get("enabled", "yes").strip().lower() not in _FALSE:
                yield _source(values, file, start)
            values, last = {}, ""
        elif line[0] in " \t":
            if not last:
                _refuse(file, number, "a continuation line without a field")
            values[last] += f"\n{line.strip()}"
        else:
            name, colon, value = line.partition(":")
            last = name.strip().lower()
            if not colon or not last:
                _refuse(file, number, "neither a field nor a comment")
            if last in values:
                _refuse(file, number, f"the field {name.strip()} stands twice in one stanza")
            start = start if values else number
            values[last] = value.strip()


def _source(values: dict[str, str], file: str, line: int) -> AptSource:
    types = _list(values, "types")
    uris, suites, components = _list(values, "uris"), _list(values, "suites"), _list(values, "components")
    for name, value in (("Types", types), ("URIs", uris), ("Suites", suites)):
        if not value:
            _refuse(file, line, f"the source has no {name}")
    for word in types:
        if word not in _KNOWN_TYPES:
            _refuse(file, line, f"`{word}` is neither deb nor deb-src")
    if not components and not all(suite.endswith("/") for suite in suites):
        _refuse(file, line, "the source has no components, and its suite does not end with a slash")
    signed_by = values.get("signed-by", "")
    inline = "-----BEGIN PGP" in signed_by
    return AptSource(
        types=tuple(word for word in _KNOWN_TYPES if word in types),
        uris=uris,
        suites=suites,
        components=components,
        architectures=_list(values, "architectures"),
        signed_by=() if inline else tuple(signed_by.replace(",", " ").split()),
        signed_by_key=_key_block(signed_by) if inline else "",
        options=tuple(sorted((name, value) for name, value in values.items() if name not in _OWN_FIELDS)),
        file=file,
        line=line,
    )


_OWN_FIELDS: Final = frozenset(
    ("types", "uris", "suites", "components", "architectures", "signed-by", "enabled"),
)


def _list(values: dict[str, str], name: str) -> tuple[str, ...]:
    return tuple(_words(values.get(name, "")))


def _key_block(value: str) -> str:
    # deb822 cannot hold an empty line: it is written as " ." (sources.list(5), Signed-By).
    lines = ("" if line == "." else line for line in value.strip().split("\n"))
    return "\n".join(lines) + "\n"


def _refuse(file: str, line: int, problem: str) -> NoReturn:
    raise KilnError(
        Domain.HOST,
        "bad-apt-sources",
        f"this machine's apt configuration cannot be read: {problem}",
        place=Place(file, line),
        hint="correct the file (`apt-get update` complains about it too)",
        exit_status=ExitStatus.INFRASTRUCTURE,
    )
