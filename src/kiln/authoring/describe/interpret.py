"""A sentence to a recipe, offline: phrases of the catalogue, typing errors, what is turned down, and values.

In this order: the text is checked; values (sizes, names, ports, ...) are taken out; the rest is searched for phrases of
the catalogue; what is turned down is marked; base, hardening and features are decided; what led to nothing is noted.
The same text, catalogue and defaults give the same reading.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Final, cast

from kiln.authoring.catalog.entries import Catalog
from kiln.authoring.catalog.settle import default
from kiln.authoring.describe import bases
from kiln.authoring.describe.bases import Choice
from kiln.authoring.describe.index import Index
from kiln.authoring.describe.mentions import Mention, find, negate
from kiln.authoring.describe.model import (
    Candidate,
    DescribeDefaults,
    How,
    Interpretation,
    Note,
    Question,
    Selection,
    Slot,
    Words,
)
from kiln.authoring.describe.options import assign_options
from kiln.authoring.describe.refusal import refusal
from kiln.authoring.describe.slots import find_slots
from kiln.authoring.describe.words import COMMON, Token, cut, tokens, words_of
from kiln.authoring.recipe.load import default_name
from kiln.authoring.recipe.model import Disk, FeatureChoice, HardeningLevel, Networking, Recipe, Security, User
from kiln.errors import KilnError

MAX_REQUEST_CHARACTERS: Final = 10_000
MAX_CONSIDERED: Final = 5
MIN_CONSIDERED: Final = 0.15  # of the best score there could be; below it a shared word is chance
_EXAMPLES: Final = (
    '"a hardened server with SSH, Docker and monitoring", "a PostgreSQL server on Ubuntu 24.04 with a 40 GB disk", '
    '"a kiosk that shows https://example.org"'
)


def interpret(
    text: str,
    catalog: Catalog,
    settings: DescribeDefaults,
    answers: Mapping[str, str] | None = None,
    *,
    turn: bool = False,
) -> Interpretation:
    """Return the reading of *text*; *answers* (words of it -> feature) are what a person said to its questions.

    A *turn* of a conversation about a recipe may say nothing but what it turns down, or a value.

    Raises KilnError (DESCRIBE): `empty-request`, `request-too-long`, `bad-request-text`, `nothing-understood`,
    `unknown-base`, `ambiguous-base`, `ambiguous-hardening`, `unsupported-architecture`.
    """
    _check(text)
    return _Reading(text, _index(_Same(catalog)), settings, answers or {}).interpretation(turn=turn)


def _answered(mention: Mention, text: str, answers: Mapping[str, str]) -> Mention:
    answer = answers.get(text[mention.start : mention.end])
    if answer not in mention.others:
        return replace(mention, others=()) if answer == mention.meaning.id else mention
    return replace(mention, meaning=replace(mention.meaning, id=answer), others=())


class _Same:
    """A catalogue as a key by identity: hashing all of its content would cost more than reading a sentence."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.catalog is self.catalog

    def __hash__(self) -> int:
        return id(self.catalog)


@functools.lru_cache(maxsize=4)
def _index(key: _Same) -> Index:
    return Index(key.catalog)


def _check(text: str) -> None:
    if not text.strip():
        raise refusal("empty-request", "the request is empty", hint=f"say what you want, such as {_EXAMPLES}")
    if len(text) > MAX_REQUEST_CHARACTERS:
        raise refusal(
            "request-too-long",
            f"the request has {len(text)} characters, more than {MAX_REQUEST_CHARACTERS}",
            hint="say it in a few sentences, or write a recipe",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise refusal(
            "bad-request-text", "the request is not valid Unicode text", Words("", error.start, error.end)
        ) from None


class _Reading:
    def __init__(self, text: str, index: Index, settings: DescribeDefaults, answers: Mapping[str, str]) -> None:
        self.text = text
        self.index = index
        self.catalog = index.catalog
        self.settings = settings
        self.words: list[Token] = tokens(text)
        self.found, unused = find_slots(text, self.words)
        self.notes = [Note(item.message, cut(text, item.start, item.end)) for item in unused]
        spans = [(item.start, item.end) for item in self.found] + [(item.start, item.end) for item in unused]
        self.taken = {
            number
            for number, word in enumerate(self.words)
            if any(start < word.end and word.start < end for start, end in spans)
        }
        found = [_answered(mention, text, answers) for mention in find(self.words, index, self.taken)]
        self.mentions = negate(text, self.words, found)

    def interpretation(self, *, turn: bool) -> Interpretation:
        bases.check_architecture(self.found, self.text, self.catalog)
        base = bases.decide(self.text, self.words, self.taken, self.mentions, self.catalog, self.settings.base)
        level = self.hardening()
        selected, negated = self.features()
        said_something = selected or base.words is not None or level.words is not None
        if not said_something and not (turn and (negated or self.found)):
            raise self.nothing()
        slots = [Slot("base", base.value, base.words), Slot("hardening", level.value, level.words)]
        slots += [Slot(item.kind, item.value, cut(self.text, item.start, item.end)) for item in self.found]
        recipe = self.recipe(base.value, cast(HardeningLevel, level.value), selected)
        self.note_unknown_words()
        return Interpretation(
            request=self.text,
            recipe=recipe,
            selected=selected,
            considered=self.considered({choice.feature for choice in (*selected, *negated)}),
            negated=negated,
            slots=tuple(slots),
            notes=tuple(sorted(self.notes, key=lambda note: (note.words.start, note.words.end))),
            questions=tuple(
                Question(cut(self.text, mention.start, mention.end), (mention.meaning.id, *mention.others))
                for mention in self.mentions
                if mention.others
            ),
        )

    def hardening(self) -> Choice:
        """Decide the level; "hardened" beside a word that names a level means that level."""
        named: dict[str, Words] = {}
        for mention in (mention for mention in self.mentions if mention.meaning.kind == "hardening"):
            level = "none" if mention.negated else mention.meaning.id
            named.setdefault(level, cut(self.text, mention.start, mention.end))
        for number, word in enumerate(self.words):
            if word.norm in ("unhardened", "insecure") and number not in self.taken:
                named.setdefault("none", cut(self.text, word.start, word.end))
        if "none" in named and len(named) > 1:
            raise refusal(
                "ambiguous-hardening",
                "the request both asks for hardening and turns it down",
                named["none"],
                "say one of them: none, minimal, standard, strict",
            )
        # Two levels, as in "secure, locked-down": the stricter one is safe to take.
        for level in ("strict", "standard", "minimal", "none"):
            if level in named:
                return Choice(level, named[level])
        return Choice(self.settings.hardening, None)

    def features(self) -> tuple[tuple[Selection, ...], tuple[Selection, ...]]:
        """Return what is wanted and what is turned down; of two contrary mentions the later one counts."""
        last: dict[str, Mention] = {}
        first: dict[str, Mention] = {}
        for mention in self.mentions:
            if mention.meaning.kind != "feature":
                continue
            name = mention.meaning.id
            if name in last and last[name].negated != mention.negated:
                words = cut(self.text, mention.start, mention.end)
                self.notes.append(Note("said before otherwise; this counts", words))
                first[name] = mention
            last[name] = mention
            first.setdefault(name, mention)
        for mention in self.mentions:
            # The feature's own name says more than a phrase for it.
            name = mention.meaning.id
            if name in first and mention.meaning.is_id and mention.negated == first[name].negated:
                first[name] = mention if not first[name].meaning.is_id else first[name]
        choices = [(first[name], self.selection(first[name])) for name in last if not self.outdone(name, first)]
        wanted = tuple(choice for mention, choice in choices if not mention.negated)
        return wanted, tuple(choice for mention, choice in choices if mention.negated)

    def outdone(self, name: str, mentions: dict[str, Mention]) -> bool:
        """Whether a feature is only meant by its kind, and another of that kind is named: "web server with Apache"."""
        if mentions[name].negated or any(
            mention.meaning.id == name and not mention.meaning.generic for mention in self.mentions
        ):
            return False
        feature = self.catalog.feature(name)
        kinds = set(feature.provides) if feature is not None else set()
        others = (
            self.catalog.feature(other) for other, found in mentions.items() if not found.negated and other != name
        )
        return any(kinds & set(other.provides) for other in others if other is not None)

    def selection(self, mention: Mention) -> Selection:
        how: How = "typo" if mention.similarity < 1 else "id" if mention.meaning.is_id else "phrase"
        words = cut(self.text, mention.start, mention.end)
        return Selection(mention.meaning.id, words, how, round(mention.similarity, 3))

    def of(self, *kinds: str) -> list[Mention]:
        return [mention for mention in self.mentions if mention.meaning.kind in kinds and not mention.negated]

    def recipe(self, base: str, level: HardeningLevel, selected: tuple[Selection, ...]) -> Recipe:
        wanted = {choice.feature for choice in selected}
        mentions = [mention for mention in self.of("feature") if mention.meaning.id in wanted]
        options, notes = assign_options(self.text, self.found, mentions, self.catalog)
        self.notes += notes
        features = tuple(
            FeatureChoice(choice.feature, self.differing(choice.feature, options, level)) for choice in selected
        )
        names = self.values("name")
        users = tuple(User(name, groups=self.groups()) for name in dict.fromkeys(self.values("user")))
        return Recipe(
            name=names[-1] if names else default_name(features),
            base_image=base,
            features=features,
            users=users,
            security=Security(level),
            networking=Networking(
                hostname=(self.values("hostname") or [""])[-1],
                firewall_ports=tuple(dict.fromkeys(self.values("open-port"))),
            ),
            locale=(self.values("locale") or ["C.UTF-8"])[-1],
            timezone=(self.values("timezone") or ["UTC"])[-1],
            disk=Disk(int((self.values("disk") or ["0"])[-1])),
            outputs=tuple(dict.fromkeys(self.values("output"))),
        )

    def differing(
        self, feature_id: str, options: dict[str, dict[str, object]], level: HardeningLevel
    ) -> tuple[tuple[str, object], ...]:
        """Return the options of a feature that are not its defaults: a recipe holds only those."""
        feature = self.catalog.feature(feature_id)
        known = dict(feature.options) if feature is not None else {}
        levels = [found.id for found in self.catalog.levels(level)]
        said = options.get(feature_id, {})
        return tuple(sorted((name, value) for name, value in said.items() if value != default(known[name], levels)))

    def groups(self) -> tuple[str, ...]:
        sudo = {"sudo", "admin", "administrator"}
        return ("sudo",) if any(word.norm in sudo for word in self.words) else ()

    def values(self, kind: str) -> list[str]:
        return [item.value for item in self.found if item.kind == kind]

    def considered(self, decided: set[str]) -> tuple[Candidate, ...]:
        asked = {word.stem for number, word in enumerate(self.words) if self.has_meaning(number, word)}
        result = []
        for feature_id, words in self.index.documents.items():
            shared = tuple(sorted(words.keys() & asked))
            share = self.index.score(feature_id, asked) if shared and feature_id not in decided else 0.0
            if share >= MIN_CONSIDERED:
                result.append(Candidate(feature_id, shared, round(share, 3)))
        result.sort(key=lambda candidate: (-candidate.score, candidate.feature))
        return tuple(result[:MAX_CONSIDERED])

    def has_meaning(self, number: int, word: Token) -> bool:
        return number not in self.taken and word.norm not in COMMON and word.stem not in COMMON

    def note_unknown_words(self) -> None:
        used = {number for mention in self.mentions for number in range(mention.first, mention.last + 1)}
        run: list[Token] = []
        for number, word in enumerate(self.words):
            unknown = self.has_meaning(number, word) and number not in used and word.norm not in _UNDERSTOOD
            if run and (not unknown or self.text[run[-1].end : word.start].strip(" -")):
                self.notes.append(Note("not understood", cut(self.text, run[0].start, run[-1].end)))
                run = []
            if unknown:
                run.append(word)
        if run:
            self.notes.append(Note("not understood", cut(self.text, run[0].start, run[-1].end)))

    def nothing(self) -> KilnError:
        near = self.considered(set())
        about = f"closest: {', '.join(candidate.feature for candidate in near)}; " if near else ""
        return refusal(
            "nothing-understood",
            "nothing in the request names a feature, a base or a level of hardening",
            hint=f"{about}say it as in {_EXAMPLES}; `kiln feature list` shows what there is",
        )


# Words that other rules have read, or that turn something down.
_UNDERSTOOD: Final = words_of(
    "unhardened insecure hostname disk disks drive storage ssd timezone zone locale sudo admin administrator account "
    "accounts firewall disable disabled drop avoid omit lacking sans never forget tcp udp architecture bit rights "
    "ram memory unwanted unnecessary"
)
