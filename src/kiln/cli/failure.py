"""Errors as people and programs read them. The only place where an error becomes an exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Final, ParamSpec

from kiln.cli.sinks import wants_colour
from kiln.errors import ExitStatus, KilnError

P = ParamSpec("P")
DETAIL_LINES: Final = 60


def render(error: KilnError, *, colour: bool) -> str:
    """Return the text of *error*: what, where, why, what to do."""
    red, dim, reset = ("\x1b[1;31m", "\x1b[2m", "\x1b[0m") if colour else ("", "", "")
    lines = [f"{red}error{reset}[{error.domain.value}/{error.reason}]: {error.message}"]
    if error.place is not None:
        lines.append(f"  --> {error.place}")
    if error.detail:
        lines += [f"  {dim}|{reset} {line}" for line in error.detail.splitlines()[-DETAIL_LINES:]]
    if error.hint:
        lines.append(f"  hint: {error.hint}")
    return "\n".join(lines)


def guarded(as_json: bool, action: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> int:
    """Run *action* and return its exit status; a refusal is shown, with `--json` as JSON on standard output."""
    try:
        return action(*args, **kwargs)
    except KilnError as error:
        if as_json:
            sys.stdout.write(json.dumps(error.to_document(), indent=2) + "\n")
        else:
            if sys.stderr.isatty():
                sys.stderr.write("\r\x1b[2K")  # an unfinished progress line
            sys.stderr.write(render(error, colour=wants_colour(sys.stderr)) + "\n")
        return int(error.exit_status)
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; what was finished is kept, and the next run goes on from there\n")
        return int(ExitStatus.INTERRUPTED)
