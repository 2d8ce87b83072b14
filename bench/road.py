"""The road from a recipe to a signed image, on a small image."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from bench.measure import Row, compare, cost
from bench.places import environment

PROGRAM = str(Path(sys.executable).parent / "kiln")
RECIPE = {"name": "bench", "base": "debian-12", "features": ["ssh"], "disk": {"size": "3G"}}


def rows(directory: Path) -> list[Row]:
    """A first run, a second run with nothing changed, and a verification, of one small image."""
    env = environment() | {"KILN_STATE": str(directory / "state")}
    (directory / "bench.json").write_text(json.dumps(RECIPE))
    build = [PROGRAM, "build", "bench.json", "--progress", "quiet"]
    verify = [PROGRAM, "verify", "images/bench", "--progress", "quiet"]
    first = cost(build, cwd=directory, env=env)
    cost(build, cwd=directory, env=env)
    second = cost(build, cwd=directory, env=env)
    checked = cost(verify, cwd=directory, env=env)
    files = sorted(str(path) for path in (directory / "images/bench").rglob("*") if path.is_file())
    hashed = cost(["sha256sum", *files], cwd=directory, env=env)
    return [
        compare("road.first_run_wall", first.wall_seconds, None, "s", " ".join(build)),
        compare("road.second_run_cpu", second.cpu_seconds, first.cpu_seconds, "s of CPU", " ".join(build)),
        compare(
            "trust.verify_wall", checked.wall_seconds, hashed.wall_seconds, "s (theirs: sha256sum)", " ".join(verify)
        ),
    ]
