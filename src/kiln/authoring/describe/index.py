"""The catalogue's phrases and words, prepared once so that a sentence is read in a few milliseconds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Final, Literal

from rapidfuzz.distance import OSA

from kiln.authoring.catalog.entries import Catalog, Feature
from kiln.authoring.describe.words import COMMON, phrase, stem, tokens

MeaningKind = Literal["feature", "base", "distribution", "hardening"]
MIN_FUZZY: Final = 4  # in words of three letters every other one is a typing error away
BM25_K1: Final = 1.2  # Robertson and Zaragoza, The Probabilistic Relevance Framework (2009), section 3.5
BM25_B: Final = 0.75
LONG: Final = 8  # from here on two typing errors are forgiven


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a phrase means."""

    kind: MeaningKind
    id: str
    is_id: bool
    generic: bool = False


class Index:
    """Phrases -> meanings, the vocabulary for typing errors, and the weights of words."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.phrases: dict[tuple[str, ...], Meaning] = {}
        self.others: dict[tuple[str, ...], list[str]] = {}
        for text, meaning in _meanings(catalog):
            words = phrase(text)
            first = self.phrases.setdefault(words, meaning)
            if first.id != meaning.id:
                self.others.setdefault(words, []).append(meaning.id)
        self.longest = max(map(len, self.phrases), default=1)
        self.vocabulary = {word for words in self.phrases for word in words}
        self.by_length: dict[int, list[str]] = {}
        for word in sorted(self.vocabulary):
            if len(word) >= MIN_FUZZY and word.isalpha() and word not in COMMON:
                self.by_length.setdefault(len(word), []).append(word)
        self.documents = {feature.id: Counter(_document(feature)) for feature in catalog.features}
        counts = Counter(word for words in self.documents.values() for word in words)
        total = len(self.documents)
        self.mean_length = sum(words.total() for words in self.documents.values()) / max(total, 1)
        self.weights = {word: math.log(1 + (total - count + 0.5) / (count + 0.5)) for word, count in counts.items()}

    def score(self, feature_id: str, asked: Set[str]) -> float:
        """Return how well a feature's words fit *asked*: Okapi BM25, as a share of the best there could be, 0 to 1."""
        words = self.documents[feature_id]
        best = sum(self.weights.get(word, 0.0) for word in asked) * (BM25_K1 + 1)
        length = 1 - BM25_B + BM25_B * words.total() / self.mean_length
        found = sum(
            self.weights[word] * words[word] * (BM25_K1 + 1) / (words[word] + BM25_K1 * length)
            for word in asked
            if words[word]
        )
        return found / best if best else 0.0

    def correct(self, word: str) -> tuple[str, float, tuple[str, ...]] | None:
        """Return what *word* is a typing error of in the vocabulary, how alike they are, and others as near."""
        length = len(word)
        if length < MIN_FUZZY or not word.isalpha():
            return None
        allowed = 2 if length >= LONG else 1
        near: dict[int, list[str]] = {}
        for size in range(length - allowed, length + allowed + 1):
            for candidate in self.by_length.get(size, ()):
                # People rarely mistype the first letter, and short words with another one are other words.
                if candidate[0] != word[0] and length < LONG:
                    continue
                if word.removeprefix("un") == candidate or word.removeprefix("non") == candidate:
                    continue  # the contrary, not a typing error
                distance = OSA.distance(word, candidate, score_cutoff=allowed)
                if distance <= allowed:
                    near.setdefault(distance, []).append(candidate)
        if not near:
            return None
        distance = min(near)
        best, *others = near[distance]
        return best, 1 - distance / max(length, len(best)), tuple(others)


def _meanings(catalog: Catalog) -> Iterator[tuple[str, Meaning]]:
    for feature in sorted(catalog.features, key=lambda feature: (feature.order, feature.id)):
        yield feature.id, Meaning("feature", feature.id, True)
    for feature in sorted(catalog.features, key=lambda feature: (feature.order, feature.id)):
        for text in feature.synonyms:
            yield text, Meaning("feature", feature.id, False)
        for text in feature.generic_synonyms:
            yield text, Meaning("feature", feature.id, False, generic=True)
    for entry in catalog.bases:
        # A base called like its distribution is found by that name below, where a version behind it is looked at.
        for text in (entry.base.id, *entry.synonyms):
            if text != entry.base.distribution:
                yield text, Meaning("base", entry.base.id, text == entry.base.id)
    for entry in catalog.bases:
        yield entry.base.distribution, Meaning("distribution", entry.base.distribution, False)
    for level in catalog.hardening:
        for text in level.synonyms:
            yield text, Meaning("hardening", level.id, False)


def _document(feature: Feature) -> Iterator[str]:
    for text in (
        feature.id,
        feature.title,
        feature.description,
        feature.category,
        *feature.synonyms,
        *feature.generic_synonyms,
    ):
        for token in tokens(text):
            if token.norm not in COMMON and stem(token.norm) not in COMMON:
                yield token.stem
