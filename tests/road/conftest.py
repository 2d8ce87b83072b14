"""A machine for each test, and one small image that the tests of the road share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from road_kiln import RECIPE, BuiltImage, Kiln, children_cpu_seconds


@pytest.fixture
def kiln(tmp_path: Path) -> Kiln:
    return Kiln(tmp_path, tmp_path / "state")


@pytest.fixture(scope="session")
def small_image(tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    """A small image, built once for the whole session."""
    if os.geteuid() != 0:
        pytest.skip("building needs root")
    root = tmp_path_factory.mktemp("road")
    (root / "small.json").write_text(json.dumps(RECIPE))
    kiln = Kiln(root, root / "state")
    before = children_cpu_seconds()
    summary = kiln.json("build", "small.json", "--json")
    return BuiltImage(kiln, root / "images" / "small", summary, children_cpu_seconds() - before)


@pytest.fixture
def mirrors_nowhere(kiln: Kiln) -> Kiln:
    """A machine all of whose mirrors are down (the discard port of loopback, where nobody listens)."""
    (kiln.directory / "kiln.toml").write_text(
        '[mirrors]\ndebian = ["http://127.0.0.1:9/debian"]\ndebian-security = ["http://127.0.0.1:9/debian-security"]\n'
    )
    return kiln
