"""Patterns of schemas: `$` is the end of the text, and everything else is as jsonschema has it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft4Validator

from kiln.engine.manifest.patterns import anchored, strict_validator


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^a$", r"^a\Z"),
        (r"^a\$", r"^a\$"),
        (r"^a\\$", r"^a\\\Z"),
        ("[$]", "[$]"),
        ("[]$]$", r"[]$]\Z"),
        ("[^]$]$", r"[^]$]\Z"),
        (r"[\]$]$", r"[\]$]\Z"),
        ("^(a$|b$)", r"^(a\Z|b\Z)"),
        ("a", "a"),
        ("", ""),
        ("[", "["),
        ("\\", "\\"),
    ],
)
def test_only_anchors_are_replaced(pattern, expected):
    assert anchored(pattern) == expected


@pytest.mark.filterwarnings("ignore::FutureWarning")
@given(st.text(alphabet="^$[]\\ab|()*", max_size=10), st.text(alphabet="ab$]^\\", max_size=6))
def test_texts_without_a_newline_match_as_before(pattern, text):
    try:
        expected = re.search(pattern, text)
    except re.error:
        return
    assert bool(re.search(anchored(pattern), text)) == bool(expected)


@pytest.mark.parametrize(
    ("schema", "instance"),
    [
        ({"pattern": "^a$"}, "a\n"),
        ({"patternProperties": {"^a$": {}}, "additionalProperties": False}, {"a\n": 1}),
        ({"properties": {"x": {"pattern": "^a$"}}}, {"x": "a\n"}),
        ({"definitions": {"n": {"pattern": "^a$"}}, "items": {"$ref": "#/definitions/n"}}, ["a\n"]),
    ],
)
def test_a_newline_at_the_end_is_refused(schema, instance):
    assert Draft4Validator(schema).is_valid(instance)
    assert not strict_validator()(schema).is_valid(instance)


@pytest.mark.parametrize("instance", [{"b": 1, "a": "x"}, {"a": 1}, {"c": 1, "d": 2}, {}, 5, {"a": "y"}])
def test_messages_are_those_of_jsonschema(instance):
    schema = {
        "patternProperties": {"^a$": {"type": "string", "pattern": "^x$"}},
        "additionalProperties": False,
        "minProperties": 1,
    }
    ours = [(list(error.path), error.message) for error in strict_validator()(schema).iter_errors(instance)]
    theirs = [(list(error.path), error.message) for error in Draft4Validator(schema).iter_errors(instance)]
    assert ours == theirs
