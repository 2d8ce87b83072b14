"""Locations in options: what they stand for, and that none leaves its root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ARGUMENTS: dict[str, Any] = {
    "tree": "/run/osbuild/tree",
    "paths": {"mounts": "/run/osbuild/mounts", "inputs": "/run/osbuild/inputs", "devices": "/dev"},
    "inputs": {"files": {"path": "/run/osbuild/inputs/files"}},
    "mounts": {"root": {"path": "/run/osbuild/mounts/root"}},
}
ROOTS = ("/run/osbuild/tree", "/run/osbuild/mounts", "/run/osbuild/inputs/files")


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("tree:///etc/a", "/run/osbuild/tree/etc/a"),
        ("/etc/a", "/run/osbuild/tree/etc/a"),
        ("tree:///", "/run/osbuild/tree"),
        ("tree:///etc/", "/run/osbuild/tree/etc/."),
        ("mount://root/boot", "/run/osbuild/mounts/root/boot"),
        ("mount:///boot", "/run/osbuild/mounts/boot"),
        ("input://files/sha256:0a", "/run/osbuild/inputs/files/sha256:0a"),
        ("input://files/", "/run/osbuild/inputs/files"),
        ("input://files/a/../b", "/run/osbuild/inputs/files/b"),
        ("tree:///..a/...", "/run/osbuild/tree/..a/..."),
    ],
)
def test_a_location_is_a_path_below_its_root(location: str, path: str) -> None:
    from osbuild.util.parsing import parse_location

    assert parse_location(location, ARGUMENTS) == path


@pytest.mark.parametrize(
    "location",
    [
        "tree:///../x",
        "tree:///a/../../x",
        "/..",
        "input://files/../other",
        "mount://root/../other",
        "input://../x",
        "input://other/x",
        "mount://other/x",
        "tree://name/x",
        "file:///etc/shadow",
        "http://a/b",
    ],
)
def test_other_names_schemes_and_ways_out_are_refused(location: str) -> None:
    from osbuild.util.parsing import parse_location

    with pytest.raises(ValueError, match=r"leaves the tree|there is no|unknown scheme|has no name"):
        parse_location(location, ARGUMENTS)


@given(
    st.sampled_from(["tree://", "mount://", "mount://root", "input://files", ""]),
    st.lists(st.sampled_from(["..", ".", "", "a", "%2e%2e", "%2f", "..%2f..", "…", "a b", "\\", "//"]), max_size=8),
)
def test_no_combination_leaves_the_roots(prefix: str, parts: list[str]) -> None:
    from osbuild.util.parsing import parse_location

    try:
        path = parse_location(f"{prefix}/{'/'.join(parts)}", ARGUMENTS)
    except ValueError:
        return
    real = os.path.normpath(path)
    assert any(real == root or real.startswith(root + "/") for root in ROOTS)


def test_a_link_on_the_way_out_is_refused_and_the_last_part_may_be_a_link(tmp_path: Path) -> None:
    from osbuild.util.path import in_tree

    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "bin").symlink_to("usr/bin")
    (tree / "run").symlink_to("/run")
    assert in_tree(str(tree), "/bin/sh") == f"{tree}/bin/sh"
    assert in_tree(str(tree), "/run") == f"{tree}/run"
    assert in_tree(str(tree), "/") == str(tree)
    for path in ("/run/x", "/run/x/y", "../tree2", "/usr/../../x"):
        with pytest.raises(ValueError, match="leaves the tree"):
            in_tree(str(tree), path)
    (tmp_path / "by-link").symlink_to(tree)
    assert in_tree(f"{tmp_path}/by-link", "/bin/sh") == f"{tmp_path}/by-link/bin/sh"
