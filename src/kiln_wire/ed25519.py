"""Check Ed25519 signatures in plain Python.

Only public data passes through here, so nothing needs to run in constant time. References: RFC 8032 (sections 5.1.3
and 5.1.7: decoding is strict, S is below the order, the equation is the one without the cofactor), RFC 8410 (the
key's encoding).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from kiln_wire.spki import KeyFormatError, der_of, hint_of, pem_of

P: Final = 2**255 - 19
L: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, P) % P
_SQRT_MINUS_ONE: Final = pow(2, (P - 1) // 4, P)
_SIZE_BYTES: Final = 32
# SubjectPublicKeyInfo {id-Ed25519}, BIT STRING of 33 bytes (RFC 8410, section 4)
SPKI_PREFIX: Final = bytes.fromhex("302a300506032b6570032100")

_Point = tuple[int, int, int, int]
"""Extended coordinates (X, Y, Z, T), RFC 8032 section 5.1.4."""
_NEUTRAL: Final[_Point] = (0, 1, 1, 0)


@dataclass(frozen=True)
class Ed25519Key:
    """The 32 bytes of a public key that encode a point of the curve."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != _SIZE_BYTES or _decode(self.raw) is None:
            raise KeyFormatError("not the encoding of a point on the curve edwards25519")

    @classmethod
    def load(cls, data: bytes) -> Ed25519Key:
        """Read a SubjectPublicKeyInfo, in PEM or in DER. Raises KeyFormatError."""
        der = der_of(data)
        if not der.startswith(SPKI_PREFIX):
            raise KeyFormatError("not an Ed25519 key in a SubjectPublicKeyInfo")
        return cls(der[len(SPKI_PREFIX) :])

    @property
    def algorithm(self) -> str:
        """The name of the algorithm."""
        return "ed25519"

    @property
    def der(self) -> bytes:
        """The SubjectPublicKeyInfo in DER."""
        return SPKI_PREFIX + self.raw

    @property
    def pem(self) -> bytes:
        """The SubjectPublicKeyInfo in PEM, as OpenSSL writes it."""
        return pem_of(self.der)

    @property
    def hint(self) -> str:
        """How a Sigstore bundle names the key."""
        return hint_of(self.der)

    @cached_property
    def _negative(self) -> _Point:
        point = _decode(self.raw)
        if point is None:
            raise AssertionError
        x, y, z, t = point
        return P - x, y, z, P - t

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Return whether the 64 bytes of *signature* are one of this key over *message*."""
        if len(signature) != 2 * _SIZE_BYTES:
            return False
        encoded_r, s = signature[:_SIZE_BYTES], int.from_bytes(signature[_SIZE_BYTES:], "little")
        if s >= L or _decode(encoded_r) is None:
            return False
        k = int.from_bytes(hashlib.sha512(encoded_r + self.raw + message).digest(), "little") % L
        return _encode(_combine(s, _BASE, k, self._negative)) == encoded_r


def _decode(data: bytes) -> _Point | None:
    """Return the point that 32 bytes encode, or None: RFC 8032, section 5.1.3."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    if y >= P:
        return None
    u, v = (y * y - 1) % P, (_D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if v * x * x % P != u:
        x = x * _SQRT_MINUS_ONE % P
        if v * x * x % P != u:
            return None
    if x == 0 and sign:
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def _encode(point: _Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, -1, P)
    x, y = x * inverse % P, y * inverse % P
    return (y | (x & 1) << 255).to_bytes(_SIZE_BYTES, "little")


def _add(left: _Point, right: _Point) -> _Point:
    # complete: RFC 8032, section 5.1.4
    x1, y1, z1, t1 = left
    x2, y2, z2, t2 = right
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * _D * t2 % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def _combine(a: int, point_a: _Point, b: int, point_b: _Point) -> _Point:
    """Return a*A + b*B; both scalars share the doublings, two bits of each at a time."""
    multiples_a, multiples_b = _multiples(point_a), _multiples(point_b)
    table = [_add(left, right) for left in multiples_a for right in multiples_b]
    result = _NEUTRAL
    for shift in range(254, -1, -2):
        result = _add(result, result)
        result = _add(result, result)
        chosen = (a >> shift & 3) << 2 | b >> shift & 3
        if chosen:
            result = _add(result, table[chosen])
    return result


def _multiples(point: _Point) -> tuple[_Point, ...]:
    double = _add(point, point)
    return _NEUTRAL, point, double, _add(double, point)


def _base() -> _Point:
    point = _decode((4 * pow(5, -1, P) % P).to_bytes(_SIZE_BYTES, "little"))
    if point is None:
        raise AssertionError
    return point


_BASE: Final = _base()
