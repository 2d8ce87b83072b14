"""The recipe room and the trial room name the same assertions."""

from __future__ import annotations

from kiln.authoring.recipe.assertions import VOCABULARY
from kiln.trial.assertions.registry import ASSERTION_TYPES


def test_every_assertion_that_a_recipe_may_ask_for_can_be_checked() -> None:
    assert set(VOCABULARY) == set(ASSERTION_TYPES)
