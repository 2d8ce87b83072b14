"""Write docs/formats/recipe.schema.json from the types of the recipe."""

import json
from pathlib import Path

from kiln.authoring.recipe.schema import recipe_schema

PAGE = Path(__file__).parents[1] / "docs/formats/recipe.schema.json"

if __name__ == "__main__":
    PAGE.write_text(json.dumps(recipe_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
