"""Logical mirror names and the base URLs that stand for them on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kiln.errors import Domain, ExitStatus, KilnError
from kiln.fetch.apt_sources import apt_mirrors


class Mirrors(Mapping[str, tuple[str, ...]]):
    """Logical name -> base URLs, first choice first, without a slash at the end."""

    def __init__(self, urls: Mapping[str, tuple[str, ...]]) -> None:
        self._urls = {name: tuple(url.rstrip("/") for url in bases) for name, bases in urls.items()}

    @classmethod
    def of_this_machine(cls, settings: Mapping[str, tuple[str, ...]]) -> Mirrors:
        """Take the machine's own apt configuration; what the settings name comes first."""
        return cls({**apt_mirrors(), **settings})

    def __getitem__(self, name: str) -> tuple[str, ...]:
        return self._urls[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._urls)

    def __len__(self) -> int:
        return len(self._urls)

    def resolve(self, name: str) -> tuple[str, ...]:
        """Return the base URLs of a logical name. Raises KilnError(FETCH, "unknown-mirror")."""
        urls = self._urls.get(name)
        if not urls:
            known = ", ".join(sorted(self._urls)) or "none"
            raise KilnError(
                Domain.FETCH,
                "unknown-mirror",
                f"no URL is known for the mirror `{name}`",
                detail=f"known mirrors: {known}",
                hint=f'add it to kiln.toml, `[mirrors]` / `{name} = ["<base URL>"]`, or to this machine\'s apt sources',
                exit_status=ExitStatus.USAGE,
            )
        return urls
