"""What a model is asked and what it answered, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass

from kiln.authoring.recipe.model import Recipe

KIND = "kiln.model-answer/v1"


@dataclass(frozen=True, slots=True)
class Question:
    """What is sent: instructions, the request, and the JSON Schema that the answer must follow."""

    instructions: str
    request: str
    schema: dict[str, object]


@dataclass(frozen=True, slots=True)
class ModelReading:
    """A model's reading of a request: the recipe, after the same checks as any, and the evidence of how it came."""

    recipe: Recipe
    difference: tuple[str, ...]
    """From the offline reading to this one; empty where both are equal."""
    evidence: dict[str, object]
