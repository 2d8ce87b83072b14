"""Check ECDSA signatures over NIST P-256 with SHA-256, in plain Python.

Only public data passes through here, so nothing needs to run in constant time. References: SEC 1 version 2.0
(section 4.1.4, verification), FIPS 186-5 (section 6.4.2), RFC 5480 (the key's encoding), X.690 (DER).
Both `s` and `n - s` are accepted, as SEC 1 does; the encoding has only one accepted spelling.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from kiln_wire.spki import KeyFormatError, der_of, hint_of, pem_of

# SEC 2 version 2.0, section 2.4.2 (secp256r1)
P: Final = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_G: Final = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    1,
)
_SIZE_BYTES: Final = 32
# SubjectPublicKeyInfo {id-ecPublicKey, prime256v1}, BIT STRING of 66 bytes, uncompressed point (RFC 5480, section 2)
_SPKI_PREFIX: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
_WINDOW_BITS: Final = 5

_Point = tuple[int, int, int]
_INFINITY: Final[_Point] = (1, 1, 0)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A point on the curve; it can't be constructed from anything else."""

    x: int
    y: int

    def __post_init__(self) -> None:
        if not (0 <= self.x < P and 0 <= self.y < P):
            raise KeyFormatError("a coordinate of the public key is out of range")
        if (self.y * self.y - (self.x * self.x - 3) * self.x - _B) % P:
            raise KeyFormatError("the public key is not a point on the curve P-256")

    @classmethod
    def load(cls, data: bytes) -> PublicKey:
        """Read a SubjectPublicKeyInfo, in PEM or in DER. Raises KeyFormatError."""
        return cls.from_der(der_of(data))

    @classmethod
    def from_der(cls, der: bytes) -> PublicKey:
        """Read a DER SubjectPublicKeyInfo with an uncompressed point. Raises KeyFormatError."""
        if len(der) != len(_SPKI_PREFIX) + 2 * _SIZE_BYTES or not der.startswith(_SPKI_PREFIX):
            raise KeyFormatError("not an uncompressed P-256 key in a SubjectPublicKeyInfo")
        point = der[len(_SPKI_PREFIX) :]
        return cls(int.from_bytes(point[:_SIZE_BYTES], "big"), int.from_bytes(point[_SIZE_BYTES:], "big"))

    @property
    def algorithm(self) -> str:
        """The name of the algorithm."""
        return "ecdsa-p256"

    @property
    def der(self) -> bytes:
        """The SubjectPublicKeyInfo in DER."""
        return _SPKI_PREFIX + self.x.to_bytes(_SIZE_BYTES, "big") + self.y.to_bytes(_SIZE_BYTES, "big")

    @property
    def pem(self) -> bytes:
        """The SubjectPublicKeyInfo in PEM, as OpenSSL writes it."""
        return pem_of(self.der)

    @property
    def hint(self) -> str:
        """How a Sigstore bundle names the key: base64 of the SHA-256 of the SubjectPublicKeyInfo."""
        return hint_of(self.der)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether the DER *signature* is one of this key over *message*; a malformed one is not."""
        values = parse_signature(signature)
        if values is None:
            return False
        r, s = values
        inverse = pow(s, -1, N)
        digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
        x, _, z = _combine(digest * inverse % N, _G, r * inverse % N, (self.x, self.y, 1))
        if z == 0:
            return False
        return x * pow(z, -2, P) % P % N == r


def parse_signature(der: bytes) -> tuple[int, int] | None:
    """Return (r, s) of a DER `SEQUENCE { INTEGER, INTEGER }` with both in [1, n - 1], or None.

    Every length is in the short form, no integer has a superfluous leading byte, and nothing follows.
    """
    if len(der) < 8 or der[0] != 0x30 or der[1] != len(der) - 2 or der[1] > 0x7F:
        return None
    first = _integer(der, 2)
    if first is None:
        return None
    second = _integer(der, first[1])
    if second is None or second[1] != len(der):
        return None
    return first[0], second[0]


def _integer(der: bytes, start: int) -> tuple[int, int] | None:
    """Return a DER INTEGER in [1, n - 1] at *start*, and where it ends."""
    if start + 2 > len(der) or der[start] != 0x02:
        return None
    begin, length = start + 2, der[start + 1]
    content = der[begin : begin + length]
    if not 1 <= length <= _SIZE_BYTES + 1 or len(content) != length or content[0] & 0x80:
        return None
    if length > 1 and content[0] == 0 and not content[1] & 0x80:
        return None
    value = int.from_bytes(content, "big")
    return (value, begin + length) if 1 <= value < N else None


def _combine(a: int, point_a: _Point, b: int, point_b: _Point) -> _Point:
    """Return a*A + b*B in Jacobian coordinates: both scalars share the doublings (Straus, in non-adjacent form)."""
    table_a, table_b = _odd_multiples(point_a), _odd_multiples(point_b)
    digits_a, digits_b = _naf(a), _naf(b)
    result = _INFINITY
    for position in range(max(len(digits_a), len(digits_b)) - 1, -1, -1):
        result = _double(result)
        for digits, table in ((digits_a, table_a), (digits_b, table_b)):
            digit = digits[position] if position < len(digits) else 0
            if digit > 0:
                result = _add(result, table[digit >> 1])
            elif digit:
                x, y, z = table[-digit >> 1]
                result = _add(result, (x, P - y, z))
    return result


def _odd_multiples(point: _Point) -> list[_Point]:
    """Return P, 3P, 5P, ... as many as the window needs."""
    double, result = _double(point), [point]
    for _ in range((1 << (_WINDOW_BITS - 2)) - 1):
        result.append(_add(result[-1], double))
    return result


def _naf(scalar: int) -> list[int]:
    """Return the width-w non-adjacent form of *scalar*, lowest digit first."""
    digits = []
    window = 1 << _WINDOW_BITS
    while scalar:
        digit = 0
        if scalar & 1:
            digit = scalar & (window - 1)
            if digit >= window >> 1:
                digit -= window
            scalar -= digit
        digits.append(digit)
        scalar >>= 1
    return digits


def _double(point: _Point) -> _Point:
    # dbl-2001-b for a = -3; the point at infinity (z = 0) stays there because every term of z does
    x, y, z = point
    delta, gamma = z * z % P, y * y % P
    beta = x * gamma % P
    alpha = 3 * (x - delta) * (x + delta) % P
    x3 = (alpha * alpha - 8 * beta) % P
    return x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % P, ((y + z) ** 2 - gamma - delta) % P


def _add(left: _Point, right: _Point) -> _Point:
    # add-1998-cmo-2, with the cases that it leaves out
    if left[2] == 0:
        return right
    if right[2] == 0:
        return left
    x1, y1, z1 = left
    x2, y2, z2 = right
    z1z1, z2z2 = z1 * z1 % P, z2 * z2 % P
    u1, s1 = x1 * z2z2 % P, y1 * z2 * z2z2 % P
    h, slope = (x2 * z1z1 - u1) % P, (y2 * z1 * z1z1 - s1) % P
    if h == 0:
        return _INFINITY if slope else _double(left)
    hh = h * h % P
    hhh, v = h * hh % P, u1 * hh % P
    x3 = (slope * slope - hhh - 2 * v) % P
    return x3, (slope * (v - x3) - s1 * hhh) % P, z1 * z2 * h % P
