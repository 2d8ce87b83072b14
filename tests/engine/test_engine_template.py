"""Parameters of manifests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.engine.manifest.template import fill, parse_definitions
from kiln.errors import KilnError


def test_definitions_are_texts_or_json():
    assert parse_definitions(["a=1", "b:=1", "c=x=y", "d:=[true]"]) == {"a": "1", "b": 1, "c": "x=y", "d": [True]}
    for wrong in ("a", "=1", "1a=2", "a b=1", "a:=x"):
        with pytest.raises(KilnError) as caught:
            parse_definitions([wrong])
        assert caught.value.reason == "bad-definition"


def test_a_text_that_is_one_parameter_takes_its_type():
    document = {"parameters": {"n": 1, "l": ["a"]}, "x": ["${n}", "${l}", "n=${n}", "$${n}", "${other}", {"y": "${n}"}]}
    assert fill(document, {}) == {"x": [1, ["a"], "n=1", "${n}", "${other}", {"y": 1}]}
    assert fill(document, {"n": "7"})["x"][0] == 7


def test_without_declarations_only_what_is_defined_is_filled():
    assert fill({"a": "${x} ${y}"}, {"x": "1"}) == {"a": "1 ${y}"}
    with pytest.raises(KilnError) as caught:
        fill({"a": "${x}"}, {"z": "1"})
    assert "`z`" in caught.value.message


@pytest.mark.parametrize("parameters", [[], 1, {"a b": 1}])
def test_what_is_no_declaration_is_refused(parameters):
    with pytest.raises(KilnError) as caught:
        fill({"parameters": parameters}, {})
    assert caught.value.place.path == ".parameters"


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_a_manifest_without_parameters_is_left_as_it_is(value):
    document = {"pipelines": value}
    assert fill(document, {}) is document
