"""A difference is given the cause that made it."""

from __future__ import annotations

import gzip
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kiln.artifact.causes import cause_of


def _elf(build_id: bytes, code: bytes = b"\x90" * 40) -> bytes:
    note = struct.pack("<III", 4, len(build_id), 3) + b"GNU\0" + build_id
    return b"\x7fELF\x02\x01\x01" + bytes(9) + note + code


CASES = [
    ("time", b"built on 2026-01-02 03:04:05\n", b"built on 2026-11-20T22:00:01Z\n"),
    ("time", b"Date: Fri, 02 Jan 2026 03:04:05 +0000\n", b"Date: Sat, 21 Nov 2026 22:00:01 +0000\n"),
    ("time", b"Fri Jan  2 03:04:05 UTC 2026\n", b"Sat Nov 21 22:00:01 UTC 2026\n"),
    ("time", b"epoch=1700000000\n", b"epoch=1763676000\n"),
    ("time", gzip.compress(b"same", mtime=1), gzip.compress(b"same", mtime=2)),
    ("order", b"b\na\nc\n", b"a\nb\nc\n"),
    ("locale", b"Size: 1,5 MB\n", b"size: 1.5 MB\n"),
    ("build-id", _elf(b"\x01" * 20), _elf(b"\x02" * 20)),
    ("path", b"at /tmp/build.1/x.c:3\n", b"at /build/reproducible-path/x.c:3\n"),
    ("random", b"id=1b671a64-40d5-491e-99b0-da01ff1f3341\n", b"id=9b671a64-40d5-491e-99b0-da01ff1f3341\n"),
    ("random", b"key 0123456789abcdef0123456789abcdef\n", b"key ffffffffffffffff0000000000000000\n"),
    ("metadata", b"equal", b"equal"),
    ("unknown", b"one thing\n", b"another matter\n"),
    ("unknown", _elf(b"\x01" * 20), _elf(b"\x01" * 20, b"\x91" * 40)),
]


@pytest.mark.parametrize(("cause", "before", "after"), CASES)
def test_a_difference_has_its_cause(cause: str, before: bytes, after: bytes) -> None:
    found, detail = cause_of(before, after)
    assert found == cause
    assert detail
    assert cause_of(after, before)[0] == cause


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_every_pair_has_an_answer_and_equal_ones_no_cause(before: bytes, after: bytes) -> None:
    cause, detail = cause_of(before, after)
    assert (cause == "metadata") == (before == after)
    assert detail.isprintable()
