"""Ed25519's group in plain integers, to make keys and signatures that no honest signer makes."""

from __future__ import annotations

import hashlib

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
SQRT_MINUS_1 = pow(2, (P - 1) // 4, P)
MESSAGE = b"block"

Point = tuple[int, int]
NEUTRAL: Point = (0, 1)


def add(first: Point, second: Point) -> Point:
    (x1, y1), (x2, y2) = first, second
    product = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def times(scalar: int, point: Point) -> Point:
    total = NEUTRAL
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point, scalar = add(point, point), scalar >> 1
    return total


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    value = int.from_bytes(data, "little")
    y, sign_bit = value & (2**255 - 1), value >> 255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * SQRT_MINUS_1 % P
    if x * x % P != square:
        return None
    return (P - x if x & 1 != sign_bit else x), y % P


BASE = decode((4 * pow(5, -1, P) % P).to_bytes(32, "little")) or NEUTRAL


def torsion() -> list[Point]:
    """Return the eight points of small order, the neutral one first."""
    for y in range(2, 100):
        point = decode(y.to_bytes(32, "little"))
        if point is not None:
            generator = times(L, point)
            if times(4, generator) != NEUTRAL:
                return [times(index, generator) for index in range(8)]
    raise AssertionError


TORSION = torsion()


def challenge(r: bytes, a: bytes, message: bytes = MESSAGE) -> int:
    return int.from_bytes(hashlib.sha512(r + a + message).digest(), "little") % L


def signature_of(
    a: int, r: int, a_torsion: Point = NEUTRAL, r_torsion: Point = NEUTRAL, message: bytes = MESSAGE
) -> tuple[bytes, bytes]:
    """Return a key aB + T and a signature (rB + T', r + ha): it always holds up to the cofactor."""
    key, commitment = encode(add(times(a, BASE), a_torsion)), encode(add(times(r, BASE), r_torsion))
    s = (r + challenge(commitment, key, message) * a) % L
    return key, commitment + s.to_bytes(32, "little")


def holds_without_cofactor(key: bytes, signature: bytes, message: bytes = MESSAGE) -> bool:
    a, r = decode(key), decode(signature[:32])
    assert a is not None
    assert r is not None
    s = int.from_bytes(signature[32:], "little")
    return times(s, BASE) == add(r, times(challenge(signature[:32], key, message), a))


def spellings(point: Point) -> list[bytes]:
    """Return all 32-byte strings that some library decodes to a point: y or y + p, with either sign bit."""
    ys = [y for y in (point[1], point[1] + P) if y < 2**255]
    return [(y | bit << 255).to_bytes(32, "little") for y in ys for bit in (0, 1)]
