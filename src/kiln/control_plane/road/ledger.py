"""What an image directory's earlier runs have finished, so that a run does only what is missing.

A step is finished if its inputs have the same fingerprint as then and every file that it left is untouched (same
size, time and inode). Content is not read again for that: `kiln verify` does, and trusts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from kiln.linux.files import write_atomic
from kiln_wire.canonical import canonical_json
from kiln_wire.digest import Digest

KIND: Final = "kiln.ledger/v1"


def fingerprint(*parts: object) -> str:
    """Return a digest over JSON values."""
    return str(Digest.of(canonical_json(list(parts))))


class Ledger:
    """The finished steps of one image directory."""

    def __init__(self, path: Path, directory: Path) -> None:
        self._path = path
        self._directory = directory
        self._steps: dict[str, dict[str, Any]] = {}
        try:
            document = json.loads(path.read_bytes())
        except (FileNotFoundError, json.JSONDecodeError):
            return  # nothing is known: every step runs
        if isinstance(document, dict) and document.get("kind") == KIND:
            self._steps = document["steps"]

    def finished(self, step: str, inputs: str) -> dict[str, Any] | None:
        """Return what the step had noted if it need not run again, else None."""
        entry = self._steps.get(step)
        if entry is None or entry["inputs"] != inputs:
            return None
        if any(self._stamp(name) != stamp for name, stamp in entry["files"].items()):
            return None
        notes: dict[str, Any] = entry["notes"]
        return notes

    def finish(self, step: str, inputs: str, files: Iterable[str], notes: dict[str, Any]) -> None:
        """Note that *step* is done and left *files* (names below the image directory)."""
        self._steps[step] = {
            "inputs": inputs,
            "files": {name: self._stamp(name) for name in sorted(files)},
            "notes": notes,
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        document = {"kind": KIND, "directory": str(self._directory), "steps": self._steps}
        write_atomic(self._path, json.dumps(document, indent=1).encode("utf-8"))

    def _stamp(self, name: str) -> list[int] | None:
        try:
            state = (self._directory / name).stat()
        except FileNotFoundError:
            return None
        return [state.st_size, state.st_mtime_ns, state.st_ino]
