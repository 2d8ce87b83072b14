"""Measure the road on a small image, and print and write the table."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from bench.measure import Row, compare, cost
from kiln.authoring.catalog.data import load_catalog
from kiln.authoring.describe.interpret import interpret
from kiln.authoring.describe.model import DescribeDefaults
from kiln.errors import KilnError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/describe"))
from sentences import HELD_OUT, OWN

RESULTS = Path(__file__).parent / "results" / "latest.json"
PROGRAM = str(Path(sys.executable).parent / "kiln")
RECIPE = {"name": "bench", "base": "debian-12", "features": ["ssh"], "disk": {"size": "3G"}}


def road(directory: Path) -> list[Row]:
    """A first run, a second run with nothing changed, and a verification, of one small image."""
    # Without compiled modules every start of Python would be measured instead of Kiln.
    hidden = ("PYTHONDONTWRITEBYTECODE",)
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment["KILN_STATE"] = str(directory / "state")
    (directory / "bench.json").write_text(json.dumps(RECIPE))
    build = [PROGRAM, "build", "bench.json", "--progress", "quiet"]
    verify = [PROGRAM, "verify", "images/bench", "--progress", "quiet"]
    first = cost(build, cwd=directory, env=environment)
    cost(build, cwd=directory, env=environment)
    second = cost(build, cwd=directory, env=environment)
    checked = cost(verify, cwd=directory, env=environment)
    files = sorted(str(path) for path in (directory / "images/bench").rglob("*") if path.is_file())
    hashed = cost(["sha256sum", *files], cwd=directory, env=environment)
    return [
        compare("road.first_run_wall", first.wall_seconds, None, "s", " ".join(build)),
        compare("road.second_run_cpu", second.cpu_seconds, first.cpu_seconds, "s of CPU", " ".join(build)),
        compare(
            "trust.verify_wall", checked.wall_seconds, hashed.wall_seconds, "s (theirs: sha256sum)", " ".join(verify)
        ),
    ]


def describing() -> list[Row]:
    """Reading of one sentence, over all sentences of the tests, after the first."""
    catalog, defaults = load_catalog(), DescribeDefaults("debian-12", "standard")
    texts = [row[0] for row in (*OWN, *HELD_OUT)] * 5
    interpret(texts[0], catalog, defaults)
    started = time.perf_counter()
    for text in texts:
        with contextlib.suppress(KilnError):
            interpret(text, catalog, defaults)
    milliseconds = (time.perf_counter() - started) * 1000 / len(texts)
    # Five milliseconds are what nobody notices in a program that itself takes 200 to start.
    return [compare("describe.sentence_wall", milliseconds, 5.0, "ms (theirs: the limit)", "kiln describe")]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kiln-bench-") as directory:
        rows = [*describing(), *road(Path(directory))]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([row.document() for row in rows], indent=1) + "\n")
    for row in rows:
        theirs = "" if row.theirs is None else f"  against {row.theirs}: ratio {row.ratio}"
        sys.stdout.write(f"{row.name:<24} {row.ours} {row.unit}{theirs}\n")


if __name__ == "__main__":
    main()
