"""Carrying out assertions: look once for all of them, decide, and look again where something was still starting."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from secrets import token_hex
from typing import Final, Protocol

from kiln.authoring.catalog.model import AssertionWish
from kiln.authoring.recipe.assertions import defaults_of
from kiln.errors import KilnError
from kiln.events.model import CheckFinished, Progress, Sink
from kiln.trial.assertions.kind import Outcome, short
from kiln.trial.assertions.registry import ReadyAssertion, validate_params
from kiln.trial.commands import plan_commands
from kiln.trial.model import CheckResult
from kiln.trial.observe import ALONE, OUTSIDE, Answer, Need, Seen, plan_batch
from kiln.trial.session import TIMEOUT_STATUSES, CommandResult, Session

STEP: Final = "test"
BATCH_SECONDS: Final = 300.0
RETRY_PAUSE_SECONDS: Final = 2.0
NAME_CHARACTERS: Final = 80


class Outside(Protocol):
    """The machine as the host sees it."""

    def look(self, need: Need) -> Answer:
        """Return what is seen; never raises for what the guest does."""


@dataclass(frozen=True, slots=True)
class PlannedCheck:
    """An assertion with its parameters read, and who asked for it."""

    wish: AssertionWish
    ready: ReadyAssertion


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """A result, and the long output that the caller may keep as evidence."""

    result: CheckResult
    evidence: str
    keep: bool = False


def plan_checks(wishes: Sequence[AssertionWish]) -> tuple[PlannedCheck, ...]:
    """Read all parameters, before anything is booted. Raises as validate_params does."""
    return tuple(PlannedCheck(wish, validate_params(wish.assertion.type, wish.assertion.params)) for wish in wishes)


class Evaluation:
    """One run over the checks of a booted machine.

    What one script looked at together took each of them an equal part of its time.
    """

    def __init__(self, checks: Sequence[PlannedCheck], session: Session, outside: Outside, sink: Sink) -> None:
        self._checks = tuple(checks)
        self._session = session
        self._outside = outside
        self._sink = sink
        self._seconds = [0.0] * len(self._checks)
        self._outcomes: dict[int, CheckOutcome] = {}
        self._lost = ""

    def run(self, *, settle_seconds: float, deadline: float) -> tuple[CheckOutcome, ...]:
        """Return the outcome of every check, in their order.

        A failure of what `settles` is looked at again for *settle_seconds*. After *deadline* (of time.monotonic)
        nothing new is started, and what is not decided by then is an `error`.
        """
        give_up = min(deadline, time.monotonic() + settle_seconds)
        pending = self._round(range(len(self._checks)), give_up, deadline)
        while pending:
            time.sleep(RETRY_PAUSE_SECONDS)
            pending = self._round(pending, give_up, deadline)
        return tuple(self._outcomes[index] for index in range(len(self._checks)))

    def _round(self, indexes: Sequence[int], give_up: float, deadline: float) -> list[int]:
        """Look at and decide the checks *indexes*; return those that are worth another look."""
        needs = list(dict.fromkeys(need for index in indexes for need in self._checks[index].ready.needs))
        common = plan_batch((need for need in needs if need.kind not in ALONE | OUTSIDE), token_hex(8))
        commands = plan_commands([need for need in needs if need.kind == "command"], token_hex(8))
        batch_of = {need: batch for batch in commands for need in batch.needs}
        answers: dict[Need, Answer] = {}
        cost: dict[Need, float] = {}
        again = []
        for index in indexes:
            ready = self._checks[index].ready
            for need in ready.needs:
                if need in answers:
                    continue
                started = time.monotonic()
                if need.kind in OUTSIDE:
                    new = {need: self._outside.look(need)}
                elif need.kind == "command":
                    batch = batch_of[need]
                    new = batch.read(self._run(batch.script, batch.seconds, deadline))
                elif need.kind in ALONE:
                    new = {need: self._look_alone(need, deadline)}
                else:
                    new = common.read(self._run(common.script, BATCH_SECONDS, deadline))
                answers.update(new)
                cost.update(dict.fromkeys(new, (time.monotonic() - started) / len(new)))
            self._seconds[index] += sum(cost[need] for need in ready.needs)
            outcome = ready.decide(Seen(answers))
            unsettled = ready.kind.settles and outcome.verdict in ("fail", "error") and not outcome.final
            if unsettled and not self._lost and time.monotonic() < give_up:
                again.append(index)
            else:
                self._finish(index, outcome)
        return again

    def _look_alone(self, need: Need, deadline: float) -> Answer:
        result = self._run(need.argument, need.seconds, deadline)
        errors = result.stderr.decode("utf-8", "replace")
        if result.timed_out:
            return Answer(None, "", f"not finished after {need.seconds:g} s {errors}")
        # A lost session looks like status 1, so that it is asked for by its own name.
        return Answer(None if self._lost else result.status, result.stdout.decode("utf-8", "replace"), errors)

    def _run(self, script: str, seconds: float, deadline: float) -> CommandResult:
        """Run *script* in the guest; where that is not possible, the result has an error and no output."""
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return CommandResult(TIMEOUT_STATUSES[0], b"", b"the time for the whole test was up")
        if not self._lost:
            try:
                return self._session.run(script, timeout_seconds=min(seconds, remaining))
            except KilnError as error:
                if error.reason != "session-lost":
                    raise
                self._lost = error.message
        return CommandResult(1, b"", self._lost.encode("utf-8"))

    def _finish(self, index: int, outcome: Outcome) -> None:
        check = self._checks[index]
        assertion = check.wish.assertion
        result = CheckResult(
            name=describe(check.ready),
            type=assertion.type,
            params=assertion.params,
            reason=str(check.wish.reason),
            verdict=outcome.verdict,
            expected=outcome.expected,
            got=outcome.got,
            seconds=round(self._seconds[index], 3),
        )
        self._outcomes[index] = CheckOutcome(result, outcome.evidence, outcome.keep)
        detail = "" if outcome.verdict == "pass" else f"expected: {outcome.expected}; got: {outcome.got}"
        self._sink.emit(CheckFinished(result.name, result.verdict, result.seconds, detail))
        self._sink.emit(Progress(STEP, len(self._outcomes), len(self._checks), "checks", result.name))


def describe(ready: ReadyAssertion) -> str:
    """Return a short name for a check: its type and what the author gave, such as `file_exists /etc/shadow 0640`."""
    defaults = {field.name: field.default for field in fields(ready.params)} | defaults_of(ready.kind.name)
    given = [
        getattr(ready.params, field.name)
        for field in fields(ready.params)
        if getattr(ready.params, field.name) != defaults[field.name]
    ]
    words = [",".join(map(str, value)) if isinstance(value, tuple) else str(value) for value in given]
    return short(" ".join([ready.kind.name, *words]))[:NAME_CHARACTERS]
