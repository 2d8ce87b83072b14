"""Reading of assertions against the vocabulary."""

from __future__ import annotations

from kiln.authoring.recipe import rules
from kiln.authoring.recipe.assertions import NOT_YET, VOCABULARY, AssertionType, Param
from kiln.authoring.recipe.model import Assertion, RecipeTest
from kiln.authoring.recipe.problems import did_you_mean
from kiln.authoring.recipe.sections import listed, options, required, same
from kiln.authoring.recipe.values import Value, shown


def recipe_test(value: Value) -> RecipeTest | None:
    """Read a named group of assertions."""
    fields = value.fields(same("description", "assertions"))
    description = required(value, fields, "description", rules.TITLE)
    if "assertions" not in fields:
        if value.kind == "object":
            value.problem("missing-key", "the key `assertions` is missing")
        return None
    assertions = listed(fields["assertions"], assertion, lambda entry: entry)
    if fields["assertions"].kind == "array" and not fields["assertions"].node.items:
        fields["assertions"].problem("bad-value", "a test without assertions tests nothing")
    return RecipeTest(description, assertions) if description and assertions else None


def assertion(value: Value) -> Assertion | None:
    """Read `{"type": ..., "params": {...}}`, `{"service_running": {"name": "ssh"}}` or `"systemd_no_failed"`."""
    if value.kind == "string":
        return _checked(value, str(value.node.scalar), value, ())
    entries = value.node.entries
    if len(entries) == 1 and entries[0][0].scalar != "type":
        key, node = entries[0]
        inner = Value(node, f"{value.path}.{key.scalar}", value.problems)
        params = () if inner.kind == "null" else options(inner)
        return _checked(Value(key, value.path, value.problems), str(key.scalar), inner, params)
    fields = value.fields(same("type", "params"))
    name = required(value, fields, "type", rules.TITLE)
    if not name:
        return None
    return _checked(fields["type"], name, value, options(fields["params"]) if "params" in fields else ())


def _checked(at_type: Value, name: str, at_params: Value, params: tuple[tuple[str, object], ...]) -> Assertion | None:
    entry = VOCABULARY.get(name)
    if entry is None:
        if name in NOT_YET:
            at_type.problem("not-supported-yet", f"the assertion `{name}` is not supported yet", "leave it out")
        else:
            at_type.problem("unknown-assertion", f"unknown assertion {shown(name)}", did_you_mean(name, VOCABULARY))
        return None
    problems = params_problems(entry, params)
    for problem in problems:
        at_params.problem("bad-value", f"`{name}`: {problem}", usage(entry))
    return None if problems else Assertion(name, params)


def params_problems(entry: AssertionType, params: tuple[tuple[str, object], ...]) -> list[str]:
    """Return what is wrong with the parameters of an assertion of that type."""
    known = {param.name: param for param in entry.params}
    given = dict(params)
    result = [f"unknown parameter {shown(name)}" for name in given if name not in known]
    result += [
        f"the parameter `{name}` is missing" for name, param in known.items() if param.required and name not in given
    ]
    result += [
        f"`{name}` must be {_KINDS[known[name].kind]}"
        for name, item in given.items()
        if name in known and not _fits(known[name], item)
    ]
    return result


def usage(entry: AssertionType) -> str:
    """Return how an assertion of that type is written: its parameters, optional ones in brackets."""
    words = [param.name if param.required else f"[{param.name}]" for param in entry.params]
    return f"`{entry.name}` takes {', '.join(words)}" if words else f"`{entry.name}` takes no parameters"


_KINDS = {"text": "text", "integer": "an integer", "port": "a port", "texts": "a list of texts"}


def _fits(param: Param, item: object) -> bool:
    match param.kind:
        case "text":
            return isinstance(item, str) and item != ""
        case "integer":
            return isinstance(item, int) and not isinstance(item, bool)
        case "port":
            return isinstance(item, int) and not isinstance(item, bool) and 0 < item < 65536
        case "texts":
            return isinstance(item, tuple) and all(isinstance(part, str) for part in item)
