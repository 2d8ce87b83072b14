"""The reader's limit on depth and the canonical writer: the same as their plain definitions, only faster."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kiln_wire.canonical import CanonicalError, canonical_json, strict_loads

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def _plain_canonical(value: Any) -> str:
    """RFC 8785, section 3.2, word by word."""
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{_plain_canonical(key)}:{_plain_canonical(value[key])}" for key in keys) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_plain_canonical, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


@given(_VALUES)
@example({"\ue000": 1, "\U0001f600": 2, "a": {"\u20ac": [], "\r": {}}})
def test_canonical_bytes_are_those_of_the_plain_definition(value: Any) -> None:
    assert canonical_json(value) == _plain_canonical(value).encode("utf-8")


@given(_VALUES)
def test_what_is_written_is_read_back(value: Any) -> None:
    assert strict_loads(canonical_json(value)) == value


def _plain_depth(text: str) -> int:
    depth = deepest = 0
    in_string = escaped = False
    for char in text:
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            depth -= 1
    return deepest


_AWKWARD = st.text(alphabet='[]{}"\\a,:é', max_size=12)


@given(st.recursive(_AWKWARD, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_AWKWARD, inner, max_size=3)))
def test_depth_is_counted_outside_of_strings_only(value: Any) -> None:
    data = json.dumps(value).encode()
    depth = _plain_depth(data.decode())
    assert strict_loads(data, max_depth=depth) == value
    if depth:
        with pytest.raises(CanonicalError, match="nested deeper"):
            strict_loads(data, max_depth=depth - 1)


@given(st.text(alphabet='[]{}"\\:,1', max_size=40))
def test_any_text_is_read_or_refused_by_one_kind_of_error(text: str) -> None:
    try:
        strict_loads(text.encode(), max_depth=3)
    except CanonicalError:
        return
    assert _plain_depth(text) <= 3


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"a":' * 100_000, b'["\\\\",' * 100_000, b"9" * 10_000, b'"\\ud800', b"\xff", b'{"a":1,"a":2}'],
)
def test_hostile_documents_are_refused_by_one_kind_of_error(data: bytes) -> None:
    with pytest.raises(CanonicalError):
        strict_loads(data)


@pytest.mark.parametrize("value", [{"\ud800": 1}, ["\ud800"], {"\ud800": {"a": "\udfff"}}, 1.5, {1: 2}, 2**53])
def test_values_without_a_canonical_form_are_refused_by_one_kind_of_error(value: Any) -> None:
    with pytest.raises(CanonicalError):
        canonical_json(value)


@pytest.mark.parametrize("piece", ['{"name":"libc6","list":[1,2,3]}', '"\\\\\\"[{"', "[[]]", '"a"'])
def test_the_depth_of_10_mb_is_checked(piece: str) -> None:
    from kiln_wire.canonical import _check_depth

    data = ("[" + ",".join([piece] * (10_000_000 // (len(piece) + 1))) + "]").encode()
    _check_depth(data, 64)
    with pytest.raises(CanonicalError):
        _check_depth(b"[" * 64 + data, 64)
