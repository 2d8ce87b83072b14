"""Ed25519 in plain Python accepts what RFC 8032 and OpenSSL sign, and nothing else."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from kiln_wire.ed25519 import Ed25519Key, L, P
from kiln_wire.keys import load_key
from kiln_wire.spki import KeyFormatError

# RFC 8032, section 7.1: TEST 1, 2 and 3; key, message, signature
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("key", "message", "signature"), VECTORS)
def test_vectors_of_rfc_8032(key: str, message: str, signature: str) -> None:
    public, text, good = Ed25519Key(bytes.fromhex(key)), bytes.fromhex(message), bytes.fromhex(signature)
    assert public.verify(good, text)
    for position in (0, 31, 32, 63):
        changed = bytearray(good)
        changed[position] ^= 1
        assert not public.verify(bytes(changed), text)
    assert not public.verify(good, text + b"x")
    assert not public.verify(good[:-1], text)
    assert not public.verify(good + b"\0", text)


def test_a_signature_with_s_beyond_the_order_is_refused() -> None:
    key, message, signature = (bytes.fromhex(item) for item in VECTORS[1])
    s = int.from_bytes(signature[32:], "little") + L
    assert not Ed25519Key(key).verify(signature[:32] + s.to_bytes(32, "little"), message)


@pytest.mark.parametrize("number", [P, P + 1, 2**255 - 1, 2])
def test_what_encodes_no_point_is_no_key(number: int) -> None:
    with pytest.raises(KeyFormatError):
        Ed25519Key(number.to_bytes(32, "little"))


@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=200), flip=st.integers(0, 511))
@settings(max_examples=25, deadline=None)
def test_it_agrees_with_openssl(seed: bytes, message: bytes, flip: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = load_key(der)
    assert (key.algorithm, key.der) == ("ed25519", der)
    assert key.pem == private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signature = private.sign(message)
    assert key.verify(signature, message)
    changed = bytearray(signature)
    changed[flip // 8] ^= 1 << flip % 8
    try:
        private.public_key().verify(bytes(changed), message)
        accepted = True
    except InvalidSignature:
        accepted = False
    assert key.verify(bytes(changed), message) == accepted
