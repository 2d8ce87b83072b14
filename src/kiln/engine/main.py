"""`kiln-osbuild`: where it starts. Most of its modules are loaded only when there is something to do."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from kiln.engine import rerun

INTERRUPTED = 130
"""kiln.errors.ExitStatus.INTERRUPTED, without loading it."""


def run() -> None:
    """Run the command and exit with its status."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        status = main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("\nAborted\n")
        status = INTERRUPTED
    sys.exit(status)


def main(argv: Sequence[str]) -> int:
    """Run the command with these arguments; returns 0, 1 for a failure, 2 for a manifest or usage that is wrong."""
    answer = rerun.answer(argv)
    if answer.known is not None:
        sys.stdout.write(answer.known)
        return 0
    from kiln.engine.command import execute  # noqa: PLC0415 - most of the time of a command that has nothing to do

    return execute(argv, answer.standard_input)


if __name__ == "__main__":
    run()
