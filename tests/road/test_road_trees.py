"""Trees of org.kiln.deb equal those of mmdebstrap for the same packages, but for what tree_equality documents."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tree_equality

from kiln.authoring.lock.trees import Offer

pytestmark = [
    pytest.mark.full,
    pytest.mark.root,
    pytest.mark.network,
    pytest.mark.skipif(shutil.which("mmdebstrap") is None, reason="needs mmdebstrap"),
]


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trees")


@pytest.fixture(scope="module")
def offer(state: Path) -> Offer:
    return tree_equality.offer(state)


@pytest.mark.parametrize("name", tree_equality.SETS)
def test_the_tree_is_the_one_of_mmdebstrap(state: Path, offer: Offer, tmp_path: Path, name: str) -> None:
    tree = tree_equality.locked(offer, state, tree_equality.SETS[name])
    tree_equality.ours(tree, state, tmp_path / "ours")
    tree_equality.archive(tree, state, tmp_path / "archive")
    tree_equality.theirs(tree, tmp_path / "archive", tmp_path / "theirs")
    assert list(tree_equality.differences(tmp_path / "ours", tmp_path / "theirs")) == []
