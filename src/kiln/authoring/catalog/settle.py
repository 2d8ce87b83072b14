"""The options of a feature, settled: defaults of the catalogue and of the hardening level, then the recipe's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from kiln.authoring.catalog.entries import Feature, Option
from kiln.authoring.recipe.problems import did_you_mean
from kiln.authoring.recipe.rules import one_line
from kiln.authoring.recipe.values import shown
from kiln.errors import Domain, ExitStatus, KilnError

MAX_TEXT: Final = 1024
MAX_TEXTS: Final = 256


def settle(
    feature: Feature, levels: Sequence[str], said: Iterable[tuple[str, object]]
) -> tuple[tuple[str, object], ...]:
    """Return every option of *feature* with its value, sorted by name.

    *levels* are the hardening levels in force, lowest first.

    Raises KilnError (CATALOG): `unknown-option`, `bad-option`.
    """
    options = dict(feature.options)
    values = {name: default(option, levels) for name, option in options.items()}
    for name, value in said:
        if name not in options:
            known = f"it has {', '.join(sorted(options))}" if options else "it has no options"
            raise _refusal(
                "unknown-option",
                f"the feature `{feature.id}` has no option {shown(name)}",
                did_you_mean(name, options) or known,
            )
        problem = fault(options[name], value)
        if problem:
            raise _refusal(
                "bad-option",
                f"the option `{name}` of the feature `{feature.id}`: {problem}",
                options[name].description,
            )
        values[name] = value
    return tuple(sorted(values.items()))


def defaults_of_all(features: Iterable[Feature], levels: Sequence[str]) -> dict[str, object]:
    """Return every option of every feature by `<feature>_<option>`, as templates of other features may name it."""
    return {
        qualified(feature.id, name): default(option, levels) for feature in features for name, option in feature.options
    }


def qualified(feature_id: str, option: str) -> str:
    """Return the name by which another feature's template names an option: `ssh_port`."""
    return f"{feature_id.replace('-', '_')}_{option}"


def default(option: Option, levels: Sequence[str]) -> object:
    """Return the default of *option* where the hardening *levels* (lowest first) are in force."""
    at: Mapping[str, object] = dict(option.default_at)
    value = option.default
    for level in ("none", *levels):
        value = at.get(level, value)
    return tuple(value) if isinstance(value, list) else value


def fault(option: Option, value: object) -> str:
    """Return what is wrong with *value* for *option*, or an empty text."""
    match option.type:
        case "boolean":
            return "" if isinstance(value, bool) else "expected true or false"
        case "integer":
            if not isinstance(value, int) or isinstance(value, bool):
                return "expected an integer"
            low, high = option.minimum, option.maximum
            inside = (low is None or value >= low) and (high is None or value <= high)
            return "" if inside else f"{value} is not from {low} to {high}"
        case "text":
            return _text_fault(option, value)
        case "texts":
            if not isinstance(value, (tuple, list)):
                return "expected a list of texts"
            if len(value) > MAX_TEXTS:
                return f"more than {MAX_TEXTS} entries"
            return next((problem for item in value if (problem := _text_fault(option, item))), "")


def _text_fault(option: Option, value: object) -> str:
    if not isinstance(value, str):
        return "expected text"
    if option.choices:
        return "" if value in option.choices else f"{shown(value)} is not one of {', '.join(option.choices)}"
    if len(value) > MAX_TEXT or not one_line(value):
        return f"expected one line of at most {MAX_TEXT} characters"
    return "" if re.fullmatch(option.pattern, value) else f"{shown(value)} does not have the form {option.pattern}"


def _refusal(reason: str, message: str, hint: str) -> KilnError:
    return KilnError(Domain.CATALOG, reason, message, hint=hint, exit_status=ExitStatus.USAGE)
