"""Assertions about what is in the image: accounts, packages, files, the output of commands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from kiln.trial.assertions.kind import (
    AssertionType,
    Outcome,
    not_seen,
    require,
    require_path,
    require_pattern,
    short,
    verdict,
)
from kiln.trial.observe import FILE_LIMIT_BYTES, Need, Seen
from kiln.trial.parsers import decode_base64, parse_files, parse_names, parse_packages

COMMAND_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class NameParams:
    """*name*: a user or a group."""

    name: str

    def __post_init__(self) -> None:
        require(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?", self.name, "the name of a user or a group")


@dataclass(frozen=True, slots=True)
class PackageParams:
    """*name*: a binary package; *version*: what its version must begin with."""

    name: str
    version: str | None = None

    def __post_init__(self) -> None:
        require(r"[a-z0-9][a-z0-9+.-]*", self.name, "the name of a package")
        if self.version is not None:
            require(r"[A-Za-z0-9.+:~-]+", self.version, "a version")


@dataclass(frozen=True, slots=True)
class PackageNameParams:
    """*name*: a binary package."""

    name: str

    def __post_init__(self) -> None:
        require(r"[a-z0-9][a-z0-9+.-]*", self.name, "the name of a package")


@dataclass(frozen=True, slots=True)
class FileParams:
    """*path*, with the permission bits in octal (`0640`), owner and group that it must have, where given."""

    path: str
    mode: str | None = None
    owner: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        require_path(self.path)
        if self.mode is not None:
            require(r"0?[0-7]{3,4}", self.mode, "a mode in octal, such as 0640")


@dataclass(frozen=True, slots=True)
class PathParams:
    """*path*: an absolute path."""

    path: str

    def __post_init__(self) -> None:
        require_path(self.path)


@dataclass(frozen=True, slots=True)
class TextParams:
    """*path* and a *text* that must be in the file, literally."""

    path: str
    text: str

    def __post_init__(self) -> None:
        require_path(self.path)
        if not self.text:
            raise ValueError("text is empty")


@dataclass(frozen=True, slots=True)
class CommandParams:
    """*run*: a shell script, run as root; *exit*: its status; *stdout*: a regular expression found in its output."""

    run: str
    exit: int
    stdout: str | None = None

    def __post_init__(self) -> None:
        if not self.run.strip() or "\0" in self.run:
            raise ValueError("run is not a command")
        if not 0 <= self.exit <= 255:
            raise ValueError(f"{self.exit} is not an exit status (0 to 255)")
        require_pattern(self.stdout)

    @property
    def need(self) -> Need:
        """The command, to be run by itself."""
        return Need("command", self.run, COMMAND_SECONDS)


def _account(kind: str, word: str, params: NameParams, seen: Seen) -> Outcome:
    expected = f"the {word} {params.name} exists"
    answer = seen[Need(kind, params.name)]
    if answer.status != 0:
        return not_seen(expected, answer)
    there = params.name in parse_names(answer.text)
    return verdict(there, expected, "exists" if there else f"there is no such {word}")


def _package_installed(params: PackageParams, seen: Seen) -> Outcome:
    expected = f"{params.name} {params.version or ''}".strip() + " is installed"
    answer = seen[Need("packages", params.name)]
    if answer.status != 0:
        return not_seen(expected, answer)
    version = parse_packages(answer.text).get(params.name)
    good = version is not None and has_version(version, params.version or "")
    return verdict(good, expected, "not installed" if version is None else f"version {version}")


def has_version(version: str, wanted: str) -> bool:
    """Whether *version* begins with *wanted*.

    A prefix ends where a part of the version ends, so that 1.2 is no prefix of 1.20; an epoch may be left out.
    """
    for candidate in (version, version.partition(":")[2] or version):
        rest = candidate[len(wanted) :]
        if candidate.startswith(wanted) and not (wanted[-1:].isdigit() and rest[:1].isdigit()):
            return True
    return False


def _package_not_installed(params: PackageNameParams, seen: Seen) -> Outcome:
    expected = f"{params.name} is not installed"
    answer = seen[Need("packages", params.name)]
    if answer.status != 0:
        return not_seen(expected, answer)
    version = parse_packages(answer.text).get(params.name)
    return verdict(version is None, expected, "not installed" if version is None else f"version {version}")


def _file_exists(params: FileParams, seen: Seen) -> Outcome:
    wanted = {
        "mode": None if params.mode is None else f"{int(params.mode, 8):04o}",
        "owner": params.owner,
        "group": params.group,
    }
    details = ", ".join(f"{key} {value}" for key, value in wanted.items() if value is not None)
    expected = f"{params.path} exists" + (f" with {details}" if details else "")
    answer = seen[Need("files", params.path)]
    if answer.status is None:
        return not_seen(expected, answer)
    file = parse_files(answer.text).get(params.path)
    if file is None:
        return verdict(False, expected, "does not exist")
    has = {"mode": f"{file.mode:04o}", "owner": file.owner, "group": file.group}
    good = all(value is None or has[key] == value for key, value in wanted.items())
    return verdict(good, expected, f"{file.type}, " + ", ".join(f"{key} {value}" for key, value in has.items()))


def _file_absent(params: PathParams, seen: Seen) -> Outcome:
    expected = f"{params.path} does not exist"
    answer = seen[Need("links", params.path)]
    if answer.status is None:
        return not_seen(expected, answer)
    file = parse_files(answer.text).get(params.path)
    return verdict(file is None, expected, "does not exist" if file is None else f"exists: {file.type}")


def _file_contains(params: TextParams, seen: Seen) -> Outcome:
    expected = f"{params.path} contains {params.text!r}"
    answer = seen[Need("file-text", params.path)]
    if answer.status is None:
        return not_seen(expected, answer)
    content = decode_base64(answer.text)
    if content is None:
        return verdict(False, expected, f"cannot be read: {answer.text}")
    if params.text.encode("utf-8") in content:
        return verdict(True, expected, "contains it")
    if len(content) == FILE_LIMIT_BYTES:
        return Outcome("error", expected, f"not in the first {FILE_LIMIT_BYTES} bytes; the rest was not read")
    return verdict(False, expected, f"{len(content)} bytes without it")


def _command(params: CommandParams, seen: Seen) -> Outcome:
    expected = f"status {params.exit}" + ("" if params.stdout is None else f", output matches /{params.stdout}/")
    answer = seen[params.need]
    if answer.status is None:
        return not_seen(expected, answer)
    evidence = f"$ {params.run}\n{answer.text}{answer.errors}\n[status {answer.status}]\n"
    matches = params.stdout is None or re.search(params.stdout, answer.text, re.MULTILINE) is not None
    got = f"status {answer.status}: {short(answer.text or answer.errors)}".rstrip(": ")
    return verdict(answer.status == params.exit and matches, expected, got, evidence)


TYPES: Final = (
    AssertionType(
        "user_exists",
        NameParams,
        lambda params: (Need("users", params.name),),
        lambda params, seen: _account("users", "user", params, seen),
    ),
    AssertionType(
        "group_exists",
        NameParams,
        lambda params: (Need("groups", params.name),),
        lambda params, seen: _account("groups", "group", params, seen),
    ),
    AssertionType(
        "package_installed",
        PackageParams,
        lambda params: (Need("packages", params.name),),
        _package_installed,
    ),
    AssertionType(
        "package_not_installed",
        PackageNameParams,
        lambda params: (Need("packages", params.name),),
        _package_not_installed,
    ),
    AssertionType(
        "file_exists",
        FileParams,
        lambda params: (Need("files", params.path),),
        _file_exists,
        settles=True,
    ),
    AssertionType(
        "file_absent",
        PathParams,
        lambda params: (Need("links", params.path),),
        _file_absent,
    ),
    AssertionType(
        "file_contains",
        TextParams,
        lambda params: (Need("file-text", params.path),),
        _file_contains,
    ),
    AssertionType(
        "command",
        CommandParams,
        lambda params: (params.need,),
        _command,
    ),
)
