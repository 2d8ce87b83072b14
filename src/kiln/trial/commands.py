"""Running several commands in one round trip, each with its own limit, status and streams."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kiln.trial.observe import Answer, Need
from kiln.trial.session import KILL_AFTER_SECONDS, TIMEOUT_STATUSES, CommandResult

COMMANDS_AT_ONCE: Final = 8
"""A round trip with its sudo costs an emulated guest half a second; more at once would stop the progress display."""


@dataclass(frozen=True, slots=True)
class CommandBatch:
    """Commands that run one after the other; *token* is random, so that no output passes for a frame."""

    needs: tuple[Need, ...]
    token: str

    @property
    def seconds(self) -> float:
        """The limit for all of them."""
        return sum(need.seconds + KILL_AFTER_SECONDS for need in self.needs)

    @property
    def script(self) -> str:
        """The shell script; a command sees an empty standard input and nothing of the others."""
        lines = ["d=$(mktemp -d /run/kiln-trial.XXXXXX) || exit 1", "trap 'rm -rf \"$d\"' EXIT"]
        for number, need in enumerate(self.needs):
            limited = (
                f"timeout -k {KILL_AFTER_SECONDS} {max(1, round(need.seconds))} sh -c {shlex.quote(need.argument)}"
            )
            lines += [
                f"printf '<%s:%s>\\n' {self.token} {number}",
                f'{limited} </dev/null 2>"$d/errors"',
                f"printf '</%s:%s:%s>\\n' {self.token} {number} $?",
                'cat "$d/errors"',
                f"printf '</%s:%s>\\n' {self.token} {number}",
            ]
        return "\n".join(lines) + "\n"

    def read(self, result: CommandResult) -> dict[Need, Answer]:
        """Return the answers in *result*; a command that was not reached or not finished gets status None."""
        text = result.stdout.decode("utf-8", "replace")
        answers = {}
        for number, need in enumerate(self.needs):
            frame = f"{self.token}:{number}"
            match = re.search(f"<{frame}>\n(.*?)</{frame}:([0-9]+)>\n(.*?)</{frame}>\n", text, re.DOTALL)
            if match is None:
                why = result.stderr.decode("utf-8", "replace").strip()[-300:]
                answers[need] = Answer(None, "", why or "the guest did not answer")
            elif int(match.group(2)) in TIMEOUT_STATUSES:
                answers[need] = Answer(None, match.group(1), f"not finished after {need.seconds:g} s")
            else:
                answers[need] = Answer(int(match.group(2)), match.group(1), match.group(3))
        return answers


def plan_commands(needs: Sequence[Need], token: str) -> tuple[CommandBatch, ...]:
    """Return batches for *needs*, in their order."""
    unique = list(dict.fromkeys(needs))
    return tuple(
        CommandBatch(tuple(unique[at : at + COMMANDS_AT_ONCE]), token) for at in range(0, len(unique), COMMANDS_AT_ONCE)
    )
