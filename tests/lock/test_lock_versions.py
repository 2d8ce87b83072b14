"""Debian version comparison, against dpkg itself."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiln.authoring.lock.versions import compare_versions, satisfies, version_key

# deb-version(7): an upstream version begins with a digit; few letters make near-equal versions likely.
UPSTREAM = st.text("0019a~+.Z-", min_size=0, max_size=8).map(lambda text: f"0{text}".rstrip("-"))
REVISION = st.text("0019az~+.", min_size=1, max_size=5)
VERSIONS = st.builds(
    lambda epoch, upstream, revision: f"{epoch}{upstream}{revision}",
    st.sampled_from(["", "0:", "1:", "10:"]),
    UPSTREAM,
    st.one_of(st.just(""), REVISION.map(lambda text: f"-{text}")),
)
SCRIPT = """while read -r a b; do
  if dpkg --compare-versions "$a" lt "$b"; then echo -1
  elif dpkg --compare-versions "$a" eq "$b"; then echo 0
  else echo 1; fi; done"""


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1", "1.0"),
        ("1.0~~", "1.0~"),
        ("1.0", "1.0a"),
        ("1.0a", "1.0+b"),
        ("9", "10"),
        ("1.2", "1.10"),
        ("2.0", "1:0.1"),
        ("1.0-1", "1.0-1.1"),
        ("1.0-1~bpo1", "1.0-1"),
        ("1.0-1", "1.0-1+deb12u1"),
        ("2.36-9+deb12u9", "2.36-9+deb12u14"),
        ("1-2-3", "1-3-1"),
    ],
)
def test_the_manuals_order_holds(older: str, newer: str) -> None:
    assert compare_versions(older, newer) == -1
    assert compare_versions(newer, older) == 1


@pytest.mark.parametrize(("left", "right"), [("1.0", "0:1.0"), ("1.0", "1.0-0"), ("1.00", "1.0"), ("1.0-", "1.0")])
def test_spellings_of_the_same_version_are_equal(left: str, right: str) -> None:
    assert compare_versions(left, right) == 0


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="needs dpkg")
@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(VERSIONS, VERSIONS), min_size=15, max_size=25))
def test_order_is_that_of_dpkg(pairs: list[tuple[str, str]]) -> None:
    text = "".join(f"{left} {right}\n" for left, right in pairs)
    done = subprocess.run(["sh", "-c", SCRIPT], input=text, text=True, capture_output=True, check=True)
    assert [compare_versions(left, right) for left, right in pairs] == [int(word) for word in done.stdout.split()]


@given(VERSIONS, VERSIONS, VERSIONS)
def test_order_is_transitive_and_total(one: str, two: str, three: str) -> None:
    first, second, third = sorted((one, two, three), key=version_key)
    assert compare_versions(first, second) <= 0
    assert compare_versions(second, third) <= 0
    assert compare_versions(first, third) <= 0


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_can_be_compared(left: str, right: str) -> None:
    assert compare_versions(left, right) == -compare_versions(right, left)


def test_relations() -> None:
    assert satisfies("1.1", ">=", "1.1")
    assert satisfies("1.1", ">>", "1.0")
    assert not satisfies("1.1", "<<", "1.1")
    assert satisfies("1.1", "<=", "1.1")
    assert satisfies("1.1", "=", "1.1")
    with pytest.raises(ValueError, match="relation"):
        satisfies("1", "~", "1")
