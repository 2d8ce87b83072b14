"""The verifier runs where nothing but Python's standard library is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kiln_wire

_PROGRAM = """
import pkgutil, sys
sys.path.insert(0, sys.argv[1])
import importlib, kiln_wire
for module in pkgutil.iter_modules(kiln_wire.__path__):
    importlib.import_module(f"kiln_wire.{module.name}")
assert "kiln" not in sys.modules
"""


def test_every_module_is_imported_without_site_packages() -> None:
    source = str(Path(kiln_wire.__file__).parent.parent)
    subprocess.run([sys.executable, "-I", "-S", "-c", _PROGRAM, source], check=True)
