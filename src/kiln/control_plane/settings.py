"""Settings: the user's kiln.toml, then the nearest one upward, then KILN_* variables; later ones win.

# kiln.toml
state = "/var/lib/kiln"          # store, keys, records
base = "debian-12"               # where a request names none
hardening = "standard"           # likewise
keyrings = ["/etc/kiln/keyrings"]
accept_expired_indexes = false   # true for mirrors that are frozen on purpose
remotes = ["ssh://builder@host?slots=2"]
vex = ["/etc/kiln/vex"]          # OpenVEX or CycloneDX documents, or folders of them
key_passphrase = "env:KILN_KEYS"        # secret that opens the key files; default: they are not encrypted
timestamp_authority = "<URL>"           # RFC 3161; default: no time stamps
witnesses = ["<URL>"]                   # who signs the checkpoints of the log of records

[signers]                        # role -> where its key is, if not in a file of keys/
image-vault = "pkcs11:token=kiln;object=image-vault?module-path=/lib.so&pin-source=env:PIN"

[mirrors]                        # logical name -> base URLs, tried in this order
debian = ["<base URL>"]

[limits]                         # for each stage of a build
memory = "8GiB"
pids = 4096
cpus = 2.0
io = "200MB"                     # bytes a second

[advisories]                     # name of a source -> where its advisories are
local = { folder = "/srv/advisories" }
osv = { mirror = "osv", path = "Debian/all.zip" }
"""

from __future__ import annotations

import os
import tomllib
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

import platformdirs

from kiln.authoring.recipe.model import HardeningLevel
from kiln.engine import arguments as limit_arguments
from kiln.errors import Domain, ExitStatus, KilnError, Place
from kiln.linux.cgroups import Limits
from kiln.vulnerabilities.model import AdvisorySource

if TYPE_CHECKING:
    from kiln.engine.execution.remote.address import Remote

FILE_NAME: Final = "kiln.toml"
SYSTEM_STATE: Final = Path("/var/lib/kiln")
DEFAULT_BASE: Final = "debian-12"
DEFAULT_HARDENING: Final[HardeningLevel] = "standard"


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """A language model that reads requests; *key* is a reference to a secret, empty where none is needed."""

    provider: Literal["anthropic", "openai"]
    url: str
    name: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a machine's owner decides once."""

    state: Path
    base: str = DEFAULT_BASE
    hardening: HardeningLevel = DEFAULT_HARDENING
    keyrings: tuple[Path, ...] = ()
    remotes: tuple[Remote, ...] = ()
    mirrors: tuple[tuple[str, tuple[str, ...]], ...] = ()
    accept_expired_indexes: bool = False
    """For mirrors that are frozen on purpose; every run that uses an expired index says so."""
    advisories: tuple[AdvisorySource, ...] = ()
    vex: tuple[Path, ...] = ()
    limits: Limits = field(default_factory=Limits)
    key_passphrase: str = ""
    timestamp_authority: str = ""
    witnesses: tuple[str, ...] = ()
    signers: tuple[tuple[str, str], ...] = ()
    model: ModelSettings | None = None

    @property
    def store(self) -> Path:
        """The engine's store: trees, sources."""
        return self.state / "store"

    @property
    def cache(self) -> Path:
        """Signed indexes and what was read from them."""
        return self.state / "cache"

    @property
    def keys(self) -> Path:
        """Private keys, one directory."""
        return self.state / "keys"

    @property
    def advisory_database(self) -> Path:
        """Known vulnerabilities; made by `kiln advisories`."""
        return self.state / "advisories.db"

    @property
    def trust(self) -> Path:
        """This machine's own trust root, and those that were imported."""
        return self.state / "trust"

    @property
    def runs(self) -> Path:
        """What each image directory's last run has finished."""
        return self.state / "runs"


def load_settings(directory: Path, environment: Mapping[str, str]) -> Settings:
    """Read the settings that hold in *directory*. Raises KilnError(SETTINGS) with file and line."""
    settings = Settings(state=_default_state(environment))
    user = Path(platformdirs.user_config_dir("kiln")) / FILE_NAME
    for path in (user, _nearest(directory)):
        if path is not None and path.is_file():
            settings = _apply(settings, path)
    if "KILN_STATE" in environment:
        settings = replace(settings, state=Path(environment["KILN_STATE"]).absolute())
    if "KILN_BASE" in environment:
        settings = replace(settings, base=environment["KILN_BASE"])
    return settings


def _default_state(environment: Mapping[str, str]) -> Path:
    if os.geteuid() == 0 and "XDG_STATE_HOME" not in environment:
        return SYSTEM_STATE
    return Path(platformdirs.user_state_dir("kiln"))


def _nearest(directory: Path) -> Path | None:
    for parent in (directory, *directory.parents):
        if (parent / FILE_NAME).is_file():
            return parent / FILE_NAME
    return None


def _apply(settings: Settings, path: Path) -> Settings:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _bad(path, "", f"not valid TOML: {error}") from None
    readers: dict[str, Callable[[Any], dict[str, Any]]] = {
        "state": lambda value: {"state": (path.parent / _text(path, "state", value)).absolute()},
        "base": lambda value: {"base": _text(path, "base", value)},
        "hardening": lambda value: {"hardening": _level(path, value)},
        "keyrings": lambda value: {"keyrings": tuple(path.parent / item for item in _texts(path, "keyrings", value))},
        "accept_expired_indexes": lambda value: {
            "accept_expired_indexes": _flag(path, "accept_expired_indexes", value)
        },
        "remotes": lambda value: {"remotes": _remotes(path, value)},
        "mirrors": lambda value: {"mirrors": _mirrors(path, value)},
        "advisories": lambda value: {"advisories": _advisories(path, value)},
        "limits": lambda value: {"limits": _limits(path, value)},
        "vex": lambda value: {"vex": tuple(path.parent / item for item in _texts(path, "vex", value))},
        "key_passphrase": lambda value: {"key_passphrase": _text(path, "key_passphrase", value)},
        "timestamp_authority": lambda value: {"timestamp_authority": _text(path, "timestamp_authority", value)},
        "witnesses": lambda value: {"witnesses": _texts(path, "witnesses", value)},
        "signers": lambda value: {"signers": _signers(path, value)},
        "model": lambda value: {"model": _model(path, value)},
    }
    for key, value in data.items():
        if key not in readers:
            raise _bad(path, key, f"unknown key `{key}`; known are {', '.join(sorted(readers))}")
        settings = replace(settings, **readers[key](value))
    return settings


def _text(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _bad(path, key, "expected a text that is not empty")
    return value


def _flag(path: Path, key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad(path, key, "expected true or false")
    return value


def _texts(path: Path, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _bad(path, key, "expected a list of texts")
    return tuple(_text(path, key, item) for item in value)


def _level(path: Path, value: Any) -> HardeningLevel:
    for level in get_args(HardeningLevel):
        if value == level:
            return level  # type: ignore[no-any-return]
    raise _bad(path, "hardening", f"{value!r} is not one of {', '.join(get_args(HardeningLevel))}")


def _remotes(path: Path, value: Any) -> tuple[Remote, ...]:
    from kiln.engine.execution.remote.address import parse_remote  # noqa: PLC0415 - few have remote hosts

    try:
        return tuple(parse_remote(text) for text in _texts(path, "remotes", value))
    except KilnError as error:
        raise _bad(path, "remotes", error.message) if error.reason == "bad-remote" else error from None


def _mirrors(path: Path, value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise _bad(path, "mirrors", "expected a table of logical names")
    return tuple((name, _texts(path, f"mirrors.{name}", urls)) for name, urls in sorted(value.items()))


def _advisories(path: Path, value: Any) -> tuple[AdvisorySource, ...]:
    if not isinstance(value, dict):
        raise _bad(path, "advisories", "expected a table of sources")
    found = []
    for name, entry in sorted(value.items()):
        key = f"advisories.{name}"
        if not isinstance(entry, dict) or set(entry) not in ({"folder"}, {"mirror", "path"}):
            raise _bad(path, key, 'expected { folder = "…" } or { mirror = "…", path = "…" }')
        texts = {part: _text(path, f"{key}.{part}", text) for part, text in entry.items()}
        if "folder" in texts:
            found.append(AdvisorySource(name, folder=path.parent / texts["folder"]))
        else:
            found.append(AdvisorySource(name, mirror=texts["mirror"], path=texts["path"]))
    return tuple(found)


def _limits(path: Path, value: Any) -> Limits:
    """Read limits as the options of `kiln-osbuild` are read."""
    readers: dict[str, tuple[str, Callable[[str], Any]]] = {
        "memory": ("memory_bytes", limit_arguments.parse_limit),
        "pids": ("pids", limit_arguments.parse_count),
        "cpus": ("cpus", limit_arguments.parse_processors),
        "io": ("io_bytes_per_second", limit_arguments.parse_limit),
    }
    if not isinstance(value, dict) or set(value) - readers.keys():
        raise _bad(path, "limits", f"expected a table with {', '.join(readers)}")
    found = {}
    for key, text in value.items():
        name, read = readers[key]
        try:
            found[name] = read(str(text))
        except ArgumentTypeError as error:
            raise _bad(path, f"limits.{key}", str(error)) from None
    return Limits(**found)


def _signers(path: Path, value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        raise _bad(path, "signers", "expected a table of roles")
    return tuple((role, _text(path, f"signers.{role}", uri)) for role, uri in sorted(value.items()))


def _model(path: Path, value: Any) -> ModelSettings:
    keys = ("provider", "url", "name", "key")
    if not isinstance(value, dict):
        raise _bad(path, "model", "expected a table")
    for key in value:
        if key not in keys:
            raise _bad(path, f"model.{key}", f"unknown key `{key}`; known are {', '.join(keys)}")
    texts = {key: _text(path, f"model.{key}", item) for key, item in value.items()}
    provider = texts.pop("provider", "openai")
    if provider not in ("anthropic", "openai"):
        raise _bad(path, "model.provider", f"{provider!r} is neither anthropic nor openai")
    for key in ("url", "name"):
        if key not in texts:
            raise _bad(path, "model", f"the key `{key}` is missing")
    return ModelSettings(cast(Literal["anthropic", "openai"], provider), **texts)


def _bad(path: Path, key: str, problem: str) -> KilnError:
    return KilnError(
        Domain.SETTINGS,
        "bad-settings",
        problem,
        place=Place(str(path), path=key),
        hint="`kiln.toml` is described in docs/settings.md",
        exit_status=ExitStatus.USAGE,
    )
