"""The command line as a person uses it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(sys.executable).parent / "kiln"
RECIPE = {
    "name": "small",
    "base": "debian-12",
    "features": ["ssh"],
    "security_level": "minimal",
    "disk": {"size": "3G"},
}


@dataclass(frozen=True)
class Kiln:
    """Runs `kiln` in a directory with a state of its own."""

    directory: Path
    state: Path

    def command(self, *arguments: str) -> list[str]:
        return [str(PROGRAM), *arguments]

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {**os.environ, "KILN_STATE": str(self.state), **(extra or {})}

    def run(
        self, *arguments: str, env: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*wrapper, *self.command(*arguments)],
            cwd=self.directory,
            env=self.environment(env),
            capture_output=True,
            text=True,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """Run a command that must succeed, and return what it printed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr + done.stdout
        return json.loads(done.stdout)

    def refusal(self, *arguments: str, **options: Any) -> dict[str, Any]:
        """Run a command that must refuse with `--json`, and return the error; nothing else may be on stdout."""
        done = self.run(*arguments, "--json", **options)
        assert done.returncode != 0, done.stdout
        error: dict[str, Any] = json.loads(done.stdout)
        assert error["kind"] == "kiln.error/v1"
        assert error["exitStatus"] == done.returncode
        assert "Traceback" not in done.stderr, done.stderr
        return error


@dataclass(frozen=True)
class BuiltImage:
    """An image, the machine that made it, and what its making cost in seconds of CPU."""

    kiln: Kiln
    directory: Path
    summary: dict[str, Any]
    cpu_seconds: float


def children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
