"""Our engine against osbuild's: the same manifests, and everything that can be seen of the two.

golden/differential holds what osbuild's engine said and built with our libdir, recorded by
tools/record_engine_golden.py from an engine put together of public files of the releases 110 to 173 (191 was not to be
had whole; section 1 of the contract says what has changed since, and what of it is left out here). With
OSBUILD_UPSTREAM naming a checkout, the two are run side by side as well, also with its libdir, that is with osbuild's
own modules.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from differential_cases import BUILDS, CASES, Case
from differential_run import Theirs, differences, observe, ours

pytestmark = pytest.mark.root

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden/differential"
CHECKOUT = os.environ.get("OSBUILD_UPSTREAM")
PAIRS = [
    (case, libdir) for case in BUILDS for libdir in ("ours", "theirs") if (case.name, libdir) != ("sandbox", "theirs")
]
"""Their runner has systemd-tmpfiles fill / and /var before each stage; ours gives a stage an empty /var."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_our_engine_does_what_osbuild_was_seen_to_do(case: Case, tmp_path, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    expected = json.loads((GOLDEN / f"{case.name}.json").read_text(encoding="utf-8"))
    seen = observe(ours, REPOSITORY / "libdir", case, tmp_path / "run")
    assert differences(expected, json.loads(json.dumps(seen))) == []


def test_every_recorded_case_is_still_asked_for():
    assert {path.stem for path in GOLDEN.iterdir()} == {case.name for case in CASES}


@pytest.mark.skipif(CHECKOUT is None, reason="OSBUILD_UPSTREAM does not name a checkout of osbuild")
@pytest.mark.full
@pytest.mark.parametrize(("case", "libdir"), PAIRS, ids=lambda value: value if isinstance(value, str) else value.name)
def test_both_engines_agree_on_a_libdir(case: Case, libdir, tmp_path):
    place = REPOSITORY / "libdir" if libdir == "ours" else Path(str(CHECKOUT))
    expected = observe(Theirs(Path(str(CHECKOUT))), place, case, tmp_path / "theirs")
    seen = observe(ours, place, case, tmp_path / "ours")
    assert differences(expected, seen) == []
