"""The words of a request, each with its place; and the words that carry no meaning of their own."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from kiln.authoring.describe.model import Words

_APOSTROPHE: Final = "\u2019"  # as word processors write it
_WORD: Final = re.compile(rf"[^\W_]+(?:[.'{_APOSTROPHE}+][^\W_]+)*")


def words_of(text: str) -> frozenset[str]:
    """Return the words of a list as it is written in this package."""
    return frozenset(re.findall(r"\S+", text))


COMMON: Final = words_of(
    """
    a able about above access across actually add adding after again against ahead all allow allowed allowing almost
    alone along already also always am among an and another any anybody anyone anything app application apps are
    around as ask at available away back based basic be because become been before behind being below best better
    between big bit both box bring build building built but buy by call called can cannot capable cheap choose clean
    come comes common company complete computer configure configured connect connected contain could create created
    creating customer customers daily data day decent default deploy deployed deployment device devices different
    distribution distro do does doing don't done dont down during each easy either else enable enabled end
    enough etc even ever every everybody everyone everything exactly except exclude excluding expose exposed extra
    fast feature featured features few fine first fit flash following for free fresh from full fully further general
    get getting give given go goes going good got great group had half handle hard has have having he headless hello
    help her here hey hi high him his home host hosted hosting hosts how i i'd i'll i'm if image images in include
    included includes including inside install installed instance instead internal internet into is isn't it it's
    its itself job just keep keeping kept kind know lab large last latest later lean least less let let's lets light
    like linux little local long look looking lot low machine machines main make makes making many may maybe me mean
    medium might mine minimal minus mode modern more most much multiple must my name named need needed needing
    needs neither new next nice no node non none nor normal not nothing now number of off offer office often ok okay
    old on once one only open operating or order other others our out over own package packages page pages part pc
    people per perhaps person place plain platform please plus port ports possible prefer preferably probably
    production project proper provide provides public pure put put quick quickly quite rather ready real really
    reliable remove require required requires rest right robust room run running runs safe same say see send serve
    serves served serving server servers service services serving set setting settings setup several shall she
    shipping should show shows similar simple single site sites size skip small so software solid some somebody
    something soon sort stable stack standard start started starting starts still such suitable support supporting
    supports sure system systems take team than thank thanks that that's the their them then there these they thing
    things this those three through time to today together too tool tools top two type under unit until up us use
    used useful user users uses using usual various version very via virtual vm want wanted wants was way we we'd
    we'll well were what when where which while who whole why will wish with within without won't work working works
    would yes yet you your
    """
)
"""Words that a request may have without meaning a feature, nor a typing error of one."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word: as it is compared (*norm*), its stem, and where it stands."""

    norm: str
    stem: str
    start: int
    end: int


def tokens(text: str) -> list[Token]:
    """Return the words of *text*; hyphens, underscores and slashes separate words."""
    result = []
    for match in _WORD.finditer(text):
        norm = unicodedata.normalize("NFKC", match.group()).casefold().replace(_APOSTROPHE, "'")
        result.append(Token(norm, stem(norm), match.start(), match.end()))
    return result


def stem(word: str) -> str:
    """Return a word without its plural, and without `'s`."""
    word = word.removesuffix("'s")
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def phrase(text: str) -> tuple[str, ...]:
    """Return the stems of a phrase of the catalogue."""
    return tuple(token.stem for token in tokens(text))


def cut(text: str, start: int, end: int) -> Words:
    """Return a piece of the request."""
    return Words(text[start:end], start, end)
