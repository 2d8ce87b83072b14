"""What a recipe may say and its author should think about again."""

from __future__ import annotations

from kiln.authoring.recipe.model import Recipe


def warnings(recipe: Recipe) -> tuple[str, ...]:
    """Return a sentence for each thing that is allowed but unwise."""
    return tuple(
        f"the password hash of `{user.username}` becomes part of the image, where whoever has the image can try "
        "passwords against it: give `sshKeys`, or `passwordHash: {secret: NAME}`"
        for user in recipe.users
        if user.password_hash
    )
