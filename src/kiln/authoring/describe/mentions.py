"""Finding of what a request names, and of what it says it does not want."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from kiln.authoring.describe.index import Index, Meaning
from kiln.authoring.describe.words import COMMON, Token, words_of

MAX_CORRECTIONS: Final = 64  # distinct unknown words that are looked at for typing errors; a request has few

# Words that turn down what follows. The first group goes on over commas: "without A, B and C".
_LIST_CUES: Final = words_of("without except excluding exclude minus neither nor omit omitting lacking sans")
_CUES: Final = _LIST_CUES | words_of(
    "no not non don't dont never skip drop remove disable avoid isn't doesn't won't cannot can't shouldn't mustn't "
    "forget zero instead rather"
)
# What may stand between such a word and the thing turned down.
_FILLERS: Final = words_of(
    "a an the any need needed needs want wanted include including install installing use using have having add "
    "adding for of than to please run running with support like kind sort type even require about enable my our be it "
    "that"
)
_JOINERS: Final = frozenset(("and", "or", "nor", "any", "a", "an", "the", "either", "also", "no", "not"))
_OFF: Final = frozenset(("disabled", "off", "removed", "excluded", "unwanted", "unnecessary", "unneeded"))
_AUXILIARIES: Final = frozenset(("is", "are", "be", "being", "should", "must", "turned", "switched", "shall"))
_NOT: Final = frozenset(("not", "isn't", "aren't", "never"))
_UNNEEDED: Final = frozenset(("needed", "wanted", "required", "necessary", "included", "installed", "desired"))
_CLAUSE_ENDS: Final = frozenset(".;:!?\n()—")


@dataclass(frozen=True, slots=True)
class Mention:
    """A phrase of the catalogue in the request: tokens *first* to *last*, included."""

    meaning: Meaning
    first: int
    last: int
    start: int
    end: int
    similarity: float = 1.0
    negated: bool = False
    others: tuple[str, ...] = ()
    """Features that the words may mean just as well."""


def find(words: list[Token], index: Index, taken: set[int]) -> list[Mention]:
    """Return the phrases of the catalogue in *words*, the longest at each place; *taken* words are not looked at."""
    stems, similarities, ties = _corrected(words, index, taken)
    result: list[Mention] = []
    at = 0
    while at < len(words):
        mention = None if at in taken else _longest(words, stems, at, index, taken)
        if mention is None:
            at += 1
            continue
        alike = min(similarities[mention.first : mention.last + 1])
        result.append(replace(mention, similarity=alike, others=_others(mention, stems, ties, index)))
        at = mention.last + 1
    return result


def _others(mention: Mention, stems: list[str], ties: dict[int, tuple[str, ...]], index: Index) -> tuple[str, ...]:
    if mention.meaning.kind != "feature":
        return ()
    phrase = tuple(stems[mention.first : mention.last + 1])
    found = list(index.others.get(phrase, ()))
    for number in range(mention.first, mention.last + 1):
        for tie in ties.get(number, ()):
            at = number - mention.first
            meaning = index.phrases.get((*phrase[:at], tie, *phrase[at + 1 :]))
            if meaning is not None and meaning.kind == "feature":
                found.append(meaning.id)
    return tuple(name for name in dict.fromkeys(found) if name != mention.meaning.id)


def _corrected(
    words: list[Token], index: Index, taken: set[int]
) -> tuple[list[str], list[float], dict[int, tuple[str, ...]]]:
    stems = [word.stem for word in words]
    similarities = [1.0] * len(words)
    ties: dict[int, tuple[str, ...]] = {}
    seen: dict[str, tuple[str, float, tuple[str, ...]] | None] = {}
    for at, word in enumerate(words):
        if at in taken or word.stem in index.vocabulary or word.norm in COMMON or word.stem in COMMON:
            continue
        if word.stem not in seen:
            if len(seen) >= MAX_CORRECTIONS:
                continue
            seen[word.stem] = index.correct(word.stem)
        found = seen[word.stem]
        if found is not None:
            stems[at], similarities[at], ties[at] = found
    return stems, similarities, ties


def _longest(words: list[Token], stems: list[str], at: int, index: Index, taken: set[int]) -> Mention | None:
    for length in range(min(index.longest, len(words) - at), 0, -1):
        meaning = index.phrases.get(tuple(stems[at : at + length]))
        last = at + length - 1
        if meaning is not None and not taken & set(range(at, last + 1)):
            return Mention(meaning, at, last, words[at].start, words[last].end)
    return None


def negate(text: str, words: list[Token], mentions: list[Mention]) -> list[Mention]:
    """Return *mentions* with those marked that the request turns down."""
    at_word = {number: position for position, mention in enumerate(mentions) for number in _span(mention)}
    negated: set[int] = set()
    cue = ""
    named = False
    at = 0
    while at < len(words):
        gap = text[words[at - 1].end : words[at].start] if at else ""
        if set(gap) & _CLAUSE_ENDS or ("," in gap and not (named and _list_goes_on(text, words, at, cue, at_word))):
            cue = ""
        position = at_word.get(at)
        if position is not None:
            if cue:
                negated.add(position)
                named = True
            if _turned_off(text, words, mentions[position].last):
                negated.add(position)
            at = mentions[position].last + 1
            continue
        word = words[at].norm
        if word in _CUES and not _harmless(words, at):
            cue, named = word, False
        elif cue and word not in (_JOINERS if named else _FILLERS):
            cue = ""
        at += 1
    return [replace(mention, negated=number in negated) for number, mention in enumerate(mentions)]


def _span(mention: Mention) -> range:
    return range(mention.first, mention.last + 1)


def _harmless(words: list[Token], at: int) -> bool:
    """Whether a word that turns things down does not do so here: "not only", "instead" without "of"."""
    following = words[at + 1].norm if at + 1 < len(words) else ""
    if words[at].norm == "instead":
        return following != "of"
    if words[at].norm == "rather":
        return following != "than"
    return following in ("only", "just", "problem", "matter")


def _list_goes_on(text: str, words: list[Token], at: int, cue: str, at_word: dict[int, int]) -> bool:
    """Whether after a comma a list of things turned down goes on: "no A, B or C", "without A, B and C"."""
    if at not in at_word and words[at].norm not in _JOINERS:
        return False
    if cue in _LIST_CUES:
        return True
    for number in range(at, len(words)):
        if set(text[words[number - 1].end : words[number].start]) & _CLAUSE_ENDS:
            return False
        if words[number].norm in ("or", "nor"):
            return True
        if number not in at_word:
            return False
    return False


def _turned_off(text: str, words: list[Token], last: int) -> bool:
    """Whether what follows a mention turns it down: "SSH disabled", "Docker is not needed"."""
    for number in range(last + 1, min(last + 5, len(words))):
        gap = text[words[number - 1].end : words[number].start]
        if set(gap) & _CLAUSE_ENDS or "," in gap:
            return False
        word = words[number].norm
        if word in _OFF:
            return True
        if word in _NOT:
            return number + 1 < len(words) and words[number + 1].norm in _UNNEEDED
        if word not in _AUXILIARIES:
            return False
    return False
