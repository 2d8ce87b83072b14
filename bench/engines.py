"""The two engines that are compared, as command lines."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import Cost, cost
from bench.places import REPOSITORY, environment


@dataclass(frozen=True)
class Engine:
    """A command, the libdir that it is used with, and what it adds to the environment."""

    name: str
    argv: tuple[str, ...]
    libdir: Path
    variables: tuple[tuple[str, str], ...] = ()

    def build(self, manifest: Any, exports: Sequence[str], directory: Path, *options: str, store: str = "") -> Cost:
        """Build into a store of that name, or into one that is new, and return the cost. Raises CalledProcessError."""
        name = store or "new-store"
        if not store:
            self.forget(directory, name)
        path = directory / "manifest.json"
        path.write_text(json.dumps(manifest), encoding="utf-8")
        words = [*self.argv, "--store", f"{name}-{self.name}", "--libdir", str(self.libdir), "--quiet"]
        words += ["--output-directory", f"out-{self.name}", *options]
        words += [word for export in exports for word in ("--export", export)]
        result = cost([*words, "manifest.json"], cwd=directory, env=environment() | dict(self.variables))
        shutil.rmtree(directory / f"out-{self.name}", ignore_errors=True)
        return result

    def store(self, directory: Path, name: str) -> Path:
        """Return the directory of a store."""
        return directory / f"{name}-{self.name}"

    def forget(self, directory: Path, name: str) -> None:
        """Remove a store."""
        shutil.rmtree(self.store(directory, name), ignore_errors=True)

    def command(self, rest: str) -> str:
        """Return how a person would repeat it."""
        return f"{' '.join(self.argv)} --libdir {self.libdir} {rest}"


def kiln(libdir: Path = REPOSITORY / "libdir", name: str = "kiln") -> Engine:
    """Return our engine."""
    return Engine(name, (sys.executable, "-m", "kiln.engine.main"), libdir)


def checkout() -> Path | None:
    """Return the checkout of osbuild to compare with, if there is one."""
    named = os.environ.get("OSBUILD_UPSTREAM")
    return Path(named) if named else None


def osbuild() -> Engine | None:
    """Return osbuild's engine of the checkout, by the interpreter of its `.venv` if there is one."""
    place = checkout()
    if place is None:
        return None
    own = place / ".venv/bin/python"
    python = str(own) if own.exists() else "/usr/bin/python3"
    return Engine("osbuild", (python, "-m", "osbuild"), place, (("PYTHONPATH", str(place)),))
