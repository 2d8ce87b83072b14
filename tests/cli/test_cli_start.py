"""The program's start: `--help` must not load what it does not need."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("httpx", "sqlalchemy", "alembic", "cryptography", "pysequoia", "jsonschema", "rapidfuzz", "yaml", "rich")


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split("\n")[-2].split())


def test_help_loads_no_heavy_library() -> None:
    loaded = modules_after("from kiln.cli.main import app\ntry:\n    app(['--help'])\nexcept SystemExit:\n    pass")
    assert "typer" in loaded
    assert {name for name in HEAVY if name in loaded} == set()


def test_verify_needs_no_cryptography_library() -> None:
    loaded = modules_after("import kiln.attestation.verify, kiln.attestation.trust")
    assert {name for name in ("cryptography", "sqlalchemy", "httpx") if name in loaded} == set()
