"""Which base a request means: a named release, what a distribution's name alone means, or the default.

A system or a release that the catalogue does not have is an error: whoever names one must not silently get another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Final

from kiln.authoring.catalog.entries import BaseEntry, Catalog
from kiln.authoring.describe.mentions import Mention
from kiln.authoring.describe.model import Words
from kiln.authoring.describe.refusal import refusal
from kiln.authoring.describe.slots import Found
from kiln.authoring.describe.words import Token, cut, words_of
from kiln.errors import KilnError

_OTHER_SYSTEMS: Final = words_of(
    "alma almalinux alpine archlinux centos freebsd gentoo macos manjaro nixos openbsd opensuse rhel rocky "
    "slackware suse windows bionic bullseye buster focal jammy"
)
_NOT_AS_BASE: Final = words_of(
    "container image client guest theme pc laptop notebook machine computer user share domain network login style"
)
"""What follows the name of a system that is not meant as the base: "Alpine containers"."""
_FOR_CLIENTS: Final = words_of("for with from to our my and")
"""Before "Windows", which no image can be: whoever says it means the machines around."""
_UNITS: Final = words_of("gb gib g mb mib m tb tib t cpu cpus core cores")


@dataclass(frozen=True, slots=True)
class Choice:
    """A value and the words that led to it; None for a default."""

    value: str
    words: Words | None


def check_architecture(found: Iterable[Found], text: str, catalog: Catalog) -> None:
    """Raise KilnError (DESCRIBE, `unsupported-architecture`) for a processor that no base is offered for."""
    offered = {name for entry in catalog.bases for name in entry.base.architectures}
    for item in found:
        if item.kind == "architecture" and item.value not in offered:
            raise refusal(
                "unsupported-architecture",
                f"no base is offered for {item.value}",
                cut(text, item.start, item.end),
                f"offered: {', '.join(sorted(offered))}",
            )


def decide(
    text: str,
    words: Sequence[Token],
    taken: Set[int],
    mentions: Sequence[Mention],
    catalog: Catalog,
    default: str,
) -> Choice:
    """Return the base. Raises KilnError (DESCRIBE): `ambiguous-base`, `unknown-base`."""
    named: dict[str, Words] = {}
    for mention in mentions:
        if mention.meaning.kind in ("base", "distribution") and not mention.negated:
            entry = _entry(text, words, taken, mention, catalog, default)
            named.setdefault(entry.base.id, cut(text, mention.start, mention.end))
    if len(named) > 1:
        first, second = list(named)[:2]
        raise refusal(
            "ambiguous-base",
            f"the request names two bases, {first} and {second}",
            named[second],
            "an image has one base; name one",
        )
    for base_id, found in named.items():
        return Choice(base_id, found)
    _refuse_other_systems(text, words, taken, catalog)
    return Choice(default, None)


def _entry(
    text: str, words: Sequence[Token], taken: Set[int], mention: Mention, catalog: Catalog, default: str
) -> BaseEntry:
    if mention.meaning.kind == "base":
        return next(entry for entry in catalog.bases if entry.base.id == mention.meaning.id)
    offered = [entry for entry in catalog.bases if entry.base.distribution == mention.meaning.id]
    version = _version_behind(text, words, taken, mention)
    if version is not None:
        raise _unknown(cut(text, mention.start, version.end), offered)
    preferred = [entry for entry in offered if entry.base.id == default]
    preferred += [entry for entry in offered if entry.preferred]
    return (preferred or offered)[0]


def _version_behind(text: str, words: Sequence[Token], taken: Set[int], mention: Mention) -> Token | None:
    after = words[mention.last + 1 : mention.last + 3]
    if not after or text[mention.end : after[0].start].strip(" -"):
        return None
    is_number = after[0].norm.replace(".", "", 1).isdecimal()
    is_size = len(after) > 1 and after[1].norm in _UNITS
    return after[0] if is_number and not is_size and mention.last + 1 not in taken else None


def _refuse_other_systems(text: str, words: Sequence[Token], taken: Set[int], catalog: Catalog) -> None:
    names = "|".join(sorted({re.escape(entry.base.distribution) for entry in catalog.bases}))
    glued = re.compile(rf"(?P<distribution>{names})[0-9][0-9.]*")
    for number, word in enumerate(words):
        if number in taken:
            continue
        match = glued.fullmatch(word.norm)
        if match is not None:
            offered = [entry for entry in catalog.bases if entry.base.distribution == match["distribution"]]
            raise _unknown(cut(text, word.start, word.end), offered)
        following = words[number + 1].stem if number + 1 < len(words) else ""
        before = words[number - 1].norm if number else ""
        if word.norm == "windows" and before in _FOR_CLIENTS:
            continue
        if word.norm in _OTHER_SYSTEMS and following not in _NOT_AS_BASE:
            raise _unknown(cut(text, word.start, word.end), catalog.bases)


def _unknown(found: Words, offered: Iterable[BaseEntry]) -> KilnError:
    known = ", ".join(entry.base.id for entry in offered)
    return refusal("unknown-base", f"no base for {found.text!r}", found, f"known: {known}")
