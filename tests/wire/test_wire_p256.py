"""The pure-Python verifier agrees with OpenSSL, and takes nothing that is malformed."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from kiln_wire.p256 import N, P, PublicKey, parse_signature
from kiln_wire.spki import KeyFormatError

_SCALARS = st.one_of(st.integers(1, 2**16), st.integers(1, N - 1), st.integers(1, 2**16).map(lambda value: N - value))


def _private(scalar: int = 0xC0FFEE) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(scalar, ec.SECP256R1())


def _public(private: ec.EllipticCurvePrivateKey) -> PublicKey:
    return PublicKey.load(private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


KEY = _private()
PUBLIC = _public(KEY)
MESSAGE = b"the message"
SIGNATURE = KEY.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))


@settings(max_examples=60, deadline=None)
@given(_SCALARS, st.binary(max_size=200))
def test_accepts_what_openssl_signs_and_refuses_it_over_another_message(scalar: int, message: bytes) -> None:
    key = _private(scalar)
    signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    public = _public(key)
    assert public.verify(signature, message)
    assert not public.verify(signature, message + b"x")


@settings(max_examples=60, deadline=None)
@given(_SCALARS, _SCALARS)
def test_agrees_with_openssl_on_arbitrary_r_and_s(r: int, s: int) -> None:
    signature = encode_dss_signature(r, s)
    try:
        KEY.public_key().verify(signature, MESSAGE, ec.ECDSA(hashes.SHA256()))
        expected = True
    except Exception:
        expected = False
    assert PUBLIC.verify(signature, MESSAGE) == expected


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(SIGNATURE) * 8 - 1))
def test_refuses_every_flipped_bit_of_a_signature(bit: int) -> None:
    changed = bytearray(SIGNATURE)
    changed[bit // 8] ^= 1 << (bit % 8)
    assert not PUBLIC.verify(bytes(changed), MESSAGE)


@given(st.binary(max_size=80))
def test_takes_any_bytes_as_a_signature_without_an_exception(data: bytes) -> None:
    parse_signature(data)


def _integer(content: bytes) -> bytes:
    return bytes([2, len(content)]) + content


R, S = (value.to_bytes(33, "big").lstrip(b"\0") for value in decode_dss_signature(SIGNATURE))
R, S = (b"\0" + value if value[0] & 0x80 else value for value in (R, S))
BODY = _integer(R) + _integer(S)

MALFORMED = {
    "empty": b"",
    "empty sequence": b"\x30\x00",
    "long form of the length": b"\x30\x81" + bytes([len(BODY)]) + BODY,
    "indefinite length": b"\x30\x80" + BODY + b"\0\0",
    "trailing byte": b"\x30" + bytes([len(BODY)]) + BODY + b"\0",
    "trailing byte inside": b"\x30" + bytes([len(BODY) + 1]) + BODY + b"\0",
    "third integer": b"\x30" + bytes([len(BODY) + 3]) + BODY + _integer(b"\x01"),
    "only r": b"\x30" + bytes([len(_integer(R))]) + _integer(R),
    "set instead of sequence": b"\x31" + bytes([len(BODY)]) + BODY,
    "r is a bit string": b"\x30" + bytes([len(BODY)]) + b"\x03" + BODY[1:],
    "superfluous zero before r": b"\x30" + bytes([len(BODY) + 1]) + bytes([2, len(R) + 1, 0]) + R + _integer(S),
    "integer of no bytes": b"\x30" + bytes([2 + len(_integer(S))]) + b"\x02\x00" + _integer(S),
    "length beyond the end": b"\x30" + bytes([len(BODY)]) + bytes([2, len(R)]) + R + bytes([2, len(S) + 9]) + S,
    "negative r": b"\x30\x08\x02\x02\xff\x01\x02\x02\x01\x01",
    "cut short": SIGNATURE[:-1],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_refuses_a_signature_that_is_not_strict_der(name: str) -> None:
    assert parse_signature(MALFORMED[name]) is None
    assert not PUBLIC.verify(MALFORMED[name], MESSAGE)


@pytest.mark.parametrize(
    ("r", "s"), [(0, 1), (1, 0), (0, 0), (N, 1), (1, N), (N + 1, 1), (P, 1), (1, P), (2**256 - 1, 1), (2**264, 1)]
)
def test_refuses_values_outside_1_to_n_minus_1(r: int, s: int) -> None:
    assert parse_signature(encode_dss_signature(r, s)) is None


def test_refuses_r_raised_by_the_order() -> None:
    r, s = decode_dss_signature(SIGNATURE)
    assert not PUBLIC.verify(encode_dss_signature(r + N, s), MESSAGE)


def test_accepts_the_other_s_of_the_same_signature() -> None:
    r, s = decode_dss_signature(SIGNATURE)
    assert PUBLIC.verify(encode_dss_signature(r, N - s), MESSAGE)


@pytest.mark.parametrize("scalar", [1, 2, 3, N - 1, N - 2])
def test_keys_that_meet_the_generator_in_the_addition(scalar: int) -> None:
    key = _private(scalar)
    for number in range(4):
        message = bytes([number])
        assert _public(key).verify(key.sign(message, ec.ECDSA(hashes.SHA256())), message)


def test_point_at_infinity_is_refused() -> None:
    # key = -G and u1 = u2: the sum is the point at infinity, so no r can match
    import hashlib

    digest = int.from_bytes(hashlib.sha256(MESSAGE).digest(), "big") % N
    assert not _public(_private(N - 1)).verify(encode_dss_signature(digest, 1), MESSAGE)


def test_key_round_trips_with_openssl_s_spelling() -> None:
    public = KEY.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert PublicKey.load(pem) == PUBLIC
    assert PUBLIC.pem == pem
    assert PUBLIC.der == public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert PublicKey.load(b"\n" + pem.replace(b"\n", b"\r\n")) == PUBLIC


def _flip(data: bytes, index: int) -> bytes:
    return data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]


BAD_KEYS = {
    "empty": b"",
    "not on the curve": _flip(PUBLIC.der, 90),
    "other curve": ec.generate_private_key(ec.SECP384R1())
    .public_key()
    .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    "compressed point": bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    + KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint),
    "x beyond p": PUBLIC.der[:27] + P.to_bytes(32, "big") + PUBLIC.der[59:],
    "trailing byte": PUBLIC.der + b"\0",
    "two PEM blocks": PUBLIC.pem * 2,
    "private key's label": PUBLIC.pem.replace(b"PUBLIC", b"PRIVATE"),
    "bad base64": PUBLIC.pem.replace(b"\n-----END", b"=\n-----END"),
    "huge": b"-----BEGIN PUBLIC KEY-----\n" + b"A" * 10**6,
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_refuses_a_key_that_is_not_one_p256_point(name: str) -> None:
    with pytest.raises(KeyFormatError):
        PublicKey.load(BAD_KEYS[name])
