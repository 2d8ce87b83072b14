"""A shell where a stage would run, to look at what it would see; the stage runs when the shell ends."""

from __future__ import annotations

import sys
from typing import Final

from kiln.linux import process
from kiln.linux.sandbox import Sandbox

SHELLS: Final = ("/usr/bin/bash", "/usr/bin/sh")


def open_shell(sandbox: Sandbox, place: str) -> None:
    """Run an interactive shell in *sandbox*, on this process's terminal. Raises KilnError(HOST, "missing-tool")."""
    sys.stderr.write(f"\nbreak before {place}: the tree is /run/osbuild/tree; `exit` goes on\n")
    sys.stderr.flush()
    # The first shell that the build root has; the sandbox itself looks for it.
    command = ["/usr/bin/env", "sh", "-c", f'for s in {" ".join(SHELLS)}; do [ -x "$s" ] && exec "$s" -i; done']
    argv = sandbox.argv(command, bwrap=process.find_program("bwrap"))
    with process.spawn(argv, env=sandbox.environment, stdin=None, new_session=False) as child:
        child.wait()
