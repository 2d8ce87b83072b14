"""Versions are ordered as each ecosystem's own tool orders them."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kiln.vulnerabilities.model import Affected, Event
from kiln.vulnerabilities.versions import VersionError, fixes, is_affected, order_key

_DEBIAN = st.from_regex(r"([0-9]:)?[0-9][0-9a-z.+~]{0,8}(-[0-9a-z.+~]{1,6})?", fullmatch=True)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is the oracle")
@settings(max_examples=60, deadline=None)
@given(_DEBIAN, _DEBIAN)
def test_debian_versions_have_dpkgs_order(left: str, right: str) -> None:
    less = subprocess.run(["dpkg", "--compare-versions", left, "lt", right], check=False, capture_output=True)
    assert (order_key("Debian", left) < order_key("Debian", right)) == (less.returncode == 0)


@settings(max_examples=200, deadline=None)
@given(_DEBIAN, _DEBIAN)
def test_debian_versions_have_univers_order(left: str, right: str) -> None:
    from univers.versions import DebianVersion

    assert (order_key("Debian", left) < order_key("Debian", right)) == (DebianVersion(left) < DebianVersion(right))


ORDERS = [
    ("PyPI", ["1.0.dev1", "1.0a1", "1.0rc1", "1.0", "1.0.post1", "1!0.5"]),
    ("npm", ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.10.0"]),
    ("crates.io", ["0.9.9", "1.0.0-pre", "1.0.0"]),
    ("Go", ["0.0.0-20190101000000-abcdefabcdef", "0.1.0", "1.2.3"]),
    ("Maven", ["1.0-alpha-1", "1.0-beta-1", "1.0-rc1", "1.0", "1.0-sp1", "1.1"]),
    ("RubyGems", ["1.0.a", "1.0", "1.0.1"]),
    ("NuGet", ["1.0.0-alpha", "1.0.0", "1.0.0.1"]),
    ("Red Hat", ["1.0~rc1-1.el9", "1.0-1.el9", "1.0-2.el9", "1:0.5-1.el9"]),
    ("Alpine", ["1.2.3_rc1-r0", "1.2.3-r0", "1.2.3-r1"]),
    ("Debian", ["1.0~rc1-1", "1.0-1", "1.0-1+deb12u1", "1:0.1-1"]),
]


@pytest.mark.parametrize(("ecosystem", "ordered"), ORDERS)
def test_orders_of_the_ecosystems(ecosystem: str, ordered: list[str]) -> None:
    for older, newer in itertools.pairwise(ordered):
        assert order_key(ecosystem, older) < order_key(ecosystem, newer), (older, newer)


def _range(ecosystem: str, *events: tuple[Any, str]) -> Affected:
    return Affected(ecosystem, "x", (tuple(Event(kind, version) for kind, version in events),))


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.9", False),
        ("1.0", True),
        ("1.5", True),
        ("2.0", False),
        ("2.5", False),
        ("3.0", True),
        ("3.1", True),
        ("3.2", False),
    ],
)
def test_events_are_taken_in_the_order_of_versions_whatever_their_order_in_the_file(
    version: str, expected: bool
) -> None:
    shuffled = _range("PyPI", ("introduced", "3.0"), ("fixed", "2.0"), ("introduced", "1.0"), ("last_affected", "3.1"))
    assert is_affected(shuffled, version) is expected


def test_a_limit_ends_what_nobody_fixed() -> None:
    limited = _range("PyPI", ("introduced", "0"), ("limit", "2.0"))
    assert is_affected(limited, "1.9")
    assert not is_affected(limited, "2.0")


def test_a_listed_version_is_affected_without_any_order() -> None:
    assert is_affected(Affected("PyPI", "x", (), ("not-a-version",)), "not-a-version")


def test_a_version_without_an_order_is_an_error_and_not_clean() -> None:
    with pytest.raises(VersionError):
        is_affected(_range("PyPI", ("introduced", "0"), ("fixed", "2.0")), "not-a-version")


def test_only_fixes_newer_than_the_version_are_offered_oldest_first() -> None:
    item = Affected(
        "Debian:12",
        "x",
        tuple((Event("introduced", "0"), Event("fixed", version)) for version in ("1.10", "1.9", "1.2")),
    )
    assert fixes(item, "1.5") == ("1.9", "1.10")
