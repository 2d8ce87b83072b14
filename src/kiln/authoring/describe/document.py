"""The interpretation as a JSON document."""

from __future__ import annotations

from typing import Any, Final

from kiln.authoring.describe.model import Interpretation, Selection
from kiln.authoring.recipe.canonical import recipe_digest, recipe_document
from kiln_wire.codec import encode

KIND: Final = "kiln.interpretation/v1"


def interpretation_document(interpretation: Interpretation) -> dict[str, Any]:
    """Return the interpretation as JSON data, with `kind`, the recipe and its digest.

    Scores are in thousandths, because a canonical document holds no fractions.
    """
    return {
        "kind": KIND,
        "request": interpretation.request,
        "recipe": recipe_document(interpretation.recipe),
        "recipeDigest": str(recipe_digest(interpretation.recipe)),
        "selected": [_selection(choice) for choice in interpretation.selected],
        "considered": [
            {"feature": item.feature, "words": list(item.words), "scoreThousandths": round(item.score * 1000)}
            for item in interpretation.considered
        ],
        "negated": [_selection(choice) for choice in interpretation.negated],
        "slots": encode(interpretation.slots),
        "notes": encode(interpretation.notes),
        "questions": encode(interpretation.questions),
    }


def _selection(choice: Selection) -> dict[str, Any]:
    return {
        "feature": choice.feature,
        "words": encode(choice.words),
        "how": choice.how,
        "scoreThousandths": round(choice.score * 1000),
    }
