"""Deleting what was thrown away, and having what was committed on disk: by a process of its own, without haste."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kiln
from kiln.engine.objects.layout import Layout
from kiln.engine.objects.partial import drop_partial
from kiln.errors import KilnError
from kiln.linux import faults, locks, mounts, process, removal


def collect(root: Path) -> int:
    """Write everything to disk, forget the marks of that, drop half-fetched files, and empty the trash.

    Returns the number of deleted entries.

    Does nothing while another process does it. Raises OSError.
    """
    layout = Layout(root)
    try:
        with locks.exclusive(root / "collector.lock", blocking=False):
            marks = list(layout.pending.iterdir())
            if marks:
                mounts.sync_file_system(layout.objects)
                faults.point("collect:synced")
                for mark in marks:
                    mark.unlink(missing_ok=True)
                    faults.point("collect:unmarked")
            drop_partial(layout)
            count = 0
            for path in list(layout.trash.iterdir()):
                faults.point("collect:deleting")
                removal.delete_tree(path)
                count += 1
            return count
    except KilnError as error:
        if error.reason != "busy":
            raise
        return 0


def start_collector(root: Path) -> None:
    """Start `collect` as a process that outlives this one, with the lowest priority."""
    environment = process.allowed_environment({"PYTHONPATH": str(Path(kiln.__file__).parents[1])})
    argv = ["setsid", "--fork", "nice", "-n", "19", sys.executable, "-m", __name__, str(root)]
    quiet = subprocess.DEVNULL
    # Not in a session of its own, whose end would end the collector before it has made one for itself.
    with process.spawn(argv, env=environment, stdout=quiet, stderr=quiet, new_session=False) as child:
        child.wait()


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
