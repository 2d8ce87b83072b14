"""Record what osbuild's engine says and builds, with this repository's libdir: the facts that our engine is held to.

Usage: OSBUILD_UPSTREAM=<checkout> python tools/record_engine_golden.py [case ...]

The checkout is osbuild's source (its `osbuild` package); an interpreter in its `.venv` is used where there is one. Each
case of tests/engine/differential_cases.py becomes one file of tests/engine/golden/differential.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
sys.path[:0] = [str(REPOSITORY / "tests/engine"), str(REPOSITORY / "src")]

from differential_cases import CASES  # noqa: E402
from differential_run import Theirs, observe  # noqa: E402

GOLDEN = REPOSITORY / "tests/engine/golden/differential"


def main() -> None:
    checkout = os.environ.get("OSBUILD_UPSTREAM")
    if not checkout:
        sys.exit("OSBUILD_UPSTREAM must name a checkout of osbuild")
    wanted = sys.argv[1:]
    GOLDEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="golden-") as directory:
        for case in CASES:
            if not wanted or case.name in wanted:
                seen = observe(Theirs(Path(checkout)), REPOSITORY / "libdir", case, Path(directory) / case.name)
                text = json.dumps(seen, indent=1, sort_keys=True, ensure_ascii=False)
                (GOLDEN / f"{case.name}.json").write_text(text + "\n", encoding="utf-8")
                sys.stdout.write(f"{case.name}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
