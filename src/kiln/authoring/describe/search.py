"""Features for some words, best first."""

from __future__ import annotations

from kiln.authoring.catalog.entries import Catalog, Feature
from kiln.authoring.describe.index import Index
from kiln.authoring.describe.words import COMMON, tokens

MAX_FOUND = 10


def search(text: str, catalog: Catalog) -> tuple[Feature, ...]:
    """Return the features whose words fit those of *text*, at most ten."""
    index = Index(catalog)
    asked = set()
    for word in tokens(text):
        if word.norm not in COMMON:
            corrected = None if word.stem in index.weights else index.correct(word.stem)
            asked.add(corrected[0] if corrected is not None else word.stem)
    scored = [(index.score(feature.id, asked), feature) for feature in catalog.features]
    found = sorted((item for item in scored if item[0] > 0), key=lambda item: (-item[0], item[1].id))
    return tuple(feature for _, feature in found[:MAX_FOUND])
