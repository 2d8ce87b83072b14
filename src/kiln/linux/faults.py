"""Named points at which tests kill the process: between any two of them a kill must do no harm.

`KILN_FAULT_POINT=<name>` kills at the first passing of that point, `<name>#3` at the third. It is read once, when this
module is loaded; without the variable, passing a point is one call of an empty function.
"""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from typing import Final

VARIABLE: Final = "KILN_FAULT_POINT"
POINTS: Final = (
    "commit:tree-done",
    "commit:unmounted",
    "commit:recorded",
    "commit:marked",
    "commit:renamed",
    "discard:renamed",
    "evict:chosen",
    "evict:renamed",
    "collect:synced",
    "collect:unmarked",
    "collect:deleting",
    "write:opened",
    "write:written",
    "write:renamed",
    "download:opened",
    "download:piece",
    "download:complete",
    "download:renamed",
    "export:file-begun",
    "export:file-written",
    "export:file-renamed",
    "bundle:file-done",
    "bundle:member-written",
    "bundle:object-unpacked",
    "bundle:object-verified",
    "bundle:object-renamed",
)
"""Every point there is; tests go through them."""


def _nothing(name: str) -> None:
    """Pass a point."""


def _killer(setting: str) -> Callable[[str], None]:
    wanted, _, number = setting.partition("#")
    last = int(number or 1)
    passed = itertools.count(1)

    def check(name: str) -> None:
        if name == wanted and next(passed) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return check


point: Final[Callable[[str], None]] = _killer(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else _nothing
"""Pass the point of this name."""
