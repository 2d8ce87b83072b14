"""All assertion types by name, and reading their parameters."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from kiln.authoring.recipe.assertions import defaults_of
from kiln.errors import Domain, ExitStatus, KilnError
from kiln.trial.assertions import benchmark, content, image, network, system
from kiln.trial.assertions.kind import AssertionType, Outcome
from kiln.trial.observe import Need, Seen
from kiln_wire.codec import DocumentError, decode

_ALL: Final[tuple[AssertionType[Any], ...]] = (
    *benchmark.TYPES,
    *content.TYPES,
    *image.TYPES,
    *network.TYPES,
    *system.TYPES,
)
ASSERTION_TYPES: Final[Mapping[str, AssertionType[Any]]] = {
    kind.name: kind for kind in sorted(_ALL, key=lambda k: k.name)
}

Params = Mapping[str, object] | Sequence[tuple[str, object]]


@dataclass(frozen=True, slots=True)
class ReadyAssertion:
    """An assertion whose parameters were read."""

    kind: AssertionType[Any]
    params: Any

    @property
    def needs(self) -> tuple[Need, ...]:
        """What must be looked at."""
        return self.kind.needs(self.params)

    def decide(self, seen: Seen) -> Outcome:
        """Return the verdict on what was seen."""
        return self.kind.decide(self.params, seen)


def validate_params(type_name: str, params: Params) -> ReadyAssertion:
    """Read an assertion's parameters.

    Raises KilnError(TRIAL, "unknown-assertion") and (TRIAL, "bad-assertion").
    """
    kind = ASSERTION_TYPES.get(type_name)
    if kind is None:
        raise _refused(
            "unknown-assertion", f"there is no assertion `{type_name}`", _nearest(type_name, ASSERTION_TYPES)
        )
    said = {key: _thawed(value) for key, value in dict(params).items()}
    given = {key: _thawed(value) for key, value in defaults_of(type_name).items()} | said
    known = [field.name for field in fields(kind.params)]
    for key in given:
        if key not in known:
            hint = _nearest(key, known) if known else "it has no parameters"
            raise _refused("bad-assertion", f"the assertion `{type_name}` has no parameter `{key}`", hint)
    try:
        return ReadyAssertion(kind, decode(kind.params, given))
    except DocumentError as error:
        name = error.path.removeprefix("$.") or "params"
        message = f"the assertion `{type_name}`: {name}: {error.problem}"
    except ValueError as error:
        message = f"the assertion `{type_name}`: {error}"
    raise _refused("bad-assertion", message, f"parameters: {', '.join(known)}" if known else "it has no parameters")


def _thawed(value: object) -> object:
    """Frozen documents hold arrays as tuples; the reader of documents wants lists."""
    if isinstance(value, (list, tuple)):
        return [_thawed(item) for item in value]
    return value


def _nearest(word: str, words: Mapping[str, object] | Sequence[str]) -> str:
    close = difflib.get_close_matches(word, words, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known: {', '.join(words)}"


def _refused(reason: str, message: str, hint: str) -> KilnError:
    return KilnError(Domain.TRIAL, reason, message, hint=hint, exit_status=ExitStatus.USAGE)
