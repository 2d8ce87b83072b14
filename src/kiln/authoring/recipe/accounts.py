"""Reading of the accounts of people."""

from __future__ import annotations

from collections.abc import Mapping

from kiln.authoring.recipe import rules
from kiln.authoring.recipe.model import User
from kiln.authoring.recipe.sections import optional, required, same
from kiln.authoring.recipe.spellings import spellings
from kiln.authoring.recipe.values import Value


def user(value: Value) -> User | None:
    """Read `"alice"` or the whole account."""
    if value.kind == "string":
        name = value.text(rules.USER_NAME)
        return User(name) if name else None
    fields = value.fields(spellings(User))
    name = required(value, fields, "username", rules.USER_NAME)
    result = User(
        name or "",
        shell=optional(fields, "shell", rules.SHELL, "/bin/bash"),
        groups=fields["groups"].texts(rules.GROUP_NAME) if "groups" in fields else (),
        home=optional(fields, "home", rules.HOME),
        comment=optional(fields, "comment", rules.COMMENT),
        ssh_keys=fields["ssh_keys"].texts(rules.SSH_KEY) if "ssh_keys" in fields else (),
        password_hash=_password_hash(fields.get("password_hash")),
        password_secret=_password_secret(fields),
    )
    return result if name else None


def _password_secret(fields: Mapping[str, Value]) -> str:
    """Read the reference to a secret: `passwordHash: {secret: NAME}`, or `passwordSecret: NAME`."""
    reference = fields.get("password_hash")
    name = ""
    if reference is not None and reference.kind == "object":
        inner = reference.fields(same("secret"))
        name = required(reference, inner, "secret", rules.SECRET_NAME) or ""
    if "password_secret" not in fields:
        return name
    if reference is not None:
        fields["password_secret"].problem("duplicate-key", "an account has one password", "keep one of them")
    return optional(fields, "password_secret", rules.SECRET_NAME)


def _password_hash(value: Value | None) -> str:
    if value is None or value.kind == "object" or (value.kind == "string" and value.node.scalar == ""):
        return ""
    if value.kind == "string" and not rules.PASSWORD_HASH.accepts(str(value.node.scalar)):
        # Not shown: whoever mistook the field wrote the password itself.
        value.problem(
            "plaintext-secret", "`password_hash` is not a hash in the form of crypt(5)", rules.PASSWORD_HASH.hint
        )
        return ""
    return value.text(rules.PASSWORD_HASH) or ""
