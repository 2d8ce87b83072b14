"""Settings: the user's kiln.toml, then the nearest one upward, then KILN_* variables; later ones win.

# kiln.toml
state = "/var/lib/kiln"          # store, keys, records
base = "debian-12"               # where a request names none
hardening = "standard"           # likewise
keyrings = ["/etc/kiln/keyrings"]
accept_expired_indexes = false   # true for mirrors that are frozen on purpose

[mirrors]                        # logical name -> base URLs, tried in this order
debian = ["<base URL>"]
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, get_args

import platformdirs

from kiln.authoring.recipe.model import HardeningLevel
from kiln.errors import Domain, ExitStatus, KilnError, Place

FILE_NAME: Final = "kiln.toml"
SYSTEM_STATE: Final = Path("/var/lib/kiln")
DEFAULT_BASE: Final = "debian-12"
DEFAULT_HARDENING: Final[HardeningLevel] = "standard"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a machine's owner decides once."""

    state: Path
    base: str = DEFAULT_BASE
    hardening: HardeningLevel = DEFAULT_HARDENING
    keyrings: tuple[Path, ...] = ()
    mirrors: tuple[tuple[str, tuple[str, ...]], ...] = ()
    accept_expired_indexes: bool = False
    """For mirrors that are frozen on purpose; every run that uses an expired index says so."""

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
        "mirrors": lambda value: {"mirrors": _mirrors(path, value)},
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


def _mirrors(path: Path, value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise _bad(path, "mirrors", "expected a table of logical names")
    return tuple((name, _texts(path, f"mirrors.{name}", urls)) for name, urls in sorted(value.items()))


def _bad(path: Path, key: str, problem: str) -> KilnError:
    return KilnError(
        Domain.SETTINGS,
        "bad-settings",
        problem,
        place=Place(str(path), path=key),
        hint="`kiln.toml` is described in docs/settings.md",
        exit_status=ExitStatus.USAGE,
    )
