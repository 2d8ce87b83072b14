"""Public ids: osbuild's, byte for byte. A changed golden file is a decision, never an accident."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kiln.engine.manifest import identity
from kiln.engine.manifest.describe import describe
from kiln.engine.manifest.load import load

GOLDEN = Path(__file__).parent / "golden"

NOOP = "beda46704765a47e6d4f44aff22168ae36866c9c0e6e11552b775b77776b2969"
"""The id of a lone `org.osbuild.noop` as osbuild 191 prints it."""


def test_the_known_id_of_a_lone_noop():
    document = {"version": "2", "pipelines": [{"name": "p", "stages": [{"type": "org.osbuild.noop"}]}]}
    assert load(document).pipelines[0].id == NOOP


def test_ids_are_those_of_the_golden_file():
    plan = load(json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8")))
    expected = json.loads((GOLDEN / "inspected.json").read_text(encoding="utf-8"))
    assert describe(plan) == expected


def test_an_independent_spelling_of_the_rule_agrees_with_the_golden_file():
    # Written from the contract's text (section 1.4) without the module under test.
    def digest(*parts):
        return hashlib.sha256(b"".join(json.dumps(part, sort_keys=True).encode() for part in parts)).hexdigest()

    inspected = json.loads((GOLDEN / "inspected.json").read_text(encoding="utf-8"))
    build, os_, image = (inspected["pipelines"][index] for index in (1, 2, 3))
    options = {"text": "grüße 😀", "number": 1.5, "b": None, "a": [True, {}]}
    second = digest("org.osbuild.noop", None, NOOP, options)
    assert [stage["id"] for stage in build["stages"]] == [NOOP, second]
    foo, bar = json.loads((GOLDEN / "manifest.json").read_text(encoding="utf-8"))["sources"]["org.osbuild.inline"][
        "items"
    ]
    inputs = {
        "files": digest("org.osbuild.files", "org.osbuild.source", {foo: {}, bar: {}}, {}),
        "named": digest("org.osbuild.files", "org.osbuild.source", {foo: {"metadata": {"rpm.check_gpg": True}}}, {}),
    }
    tree = digest("org.osbuild.noop", second, None, {}, 1700000000, inputs)
    assert os_["stages"][0]["id"] == tree
    disk = digest("org.osbuild.loopback", {"filename": "disk.img", "start": 2048})
    part = digest("org.osbuild.luks2", disk, {"passphrase": "x"})
    mounts = [
        digest("org.osbuild.ext4", part, "/", {}),
        digest("org.osbuild.fat", disk, 2, "/boot/efi", {"x": 1}),
        digest("org.osbuild.noop", {}),
    ]
    made = digest(
        "org.osbuild.noop",
        second,
        None,
        {},
        {"tree": digest("org.osbuild.tree", "org.osbuild.pipeline", {tree: {}}, {})},
        mounts,
    )
    # Devices without a mount are not part of an id.
    assert [stage["id"] for stage in image["stages"]] == [made, digest("org.osbuild.noop", second, made, {})]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_the_order_of_keys_does_not_change_an_id(options):
    backwards = dict(reversed(list(options.items())))
    assert identity.device_id("x", None, options) == identity.device_id("x", None, backwards)
    assert identity.source_id("x", options) == identity.source_id("x", backwards)
