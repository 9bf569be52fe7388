"""The edge cases of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko 2020), made here from the curve itself."""

from __future__ import annotations

import hashlib

import pytest
from builders import ALICE, BOB
from curve import (
    BASE,
    MESSAGE,
    NEUTRAL,
    TORSION,
    L,
    P,
    challenge,
    decode,
    encode,
    holds_without_cofactor,
    signature_of,
    spellings,
    times,
)

from bnnchain.consensus.signatures import is_valid, public_key, sign
from bnnchain.consensus.types import PublicKey, Signature


def valid(key: bytes, signature: bytes, message: bytes = MESSAGE) -> bool:
    return is_valid(PublicKey(key), message, Signature(signature))


def test_the_arithmetic_of_this_test_agrees_with_the_library() -> None:
    seed = hashlib.sha512(ALICE.private_bytes_raw()).digest()[:32]
    scalar = int.from_bytes(seed, "little") & (2**254 - 8) | 2**254
    assert encode(times(scalar, BASE)) == public_key(ALICE)
    assert holds_without_cofactor(public_key(ALICE), sign(ALICE, MESSAGE))
    assert valid(*signature_of(5, 7))
    assert len(set(TORSION)) == 8
    assert times(8, TORSION[1]) == NEUTRAL != times(4, TORSION[1])


def test_an_honest_signature_is_valid_for_its_key_and_message_alone() -> None:
    signature = sign(ALICE, MESSAGE)
    assert is_valid(public_key(ALICE), MESSAGE, signature)
    assert not is_valid(public_key(BOB), MESSAGE, signature)
    assert not is_valid(public_key(ALICE), MESSAGE + b"x", signature)


@pytest.mark.parametrize("bit", range(0, 512, 17))
def test_one_changed_bit_makes_a_signature_invalid(bit: int) -> None:
    signature = bytearray(sign(ALICE, MESSAGE))
    signature[bit // 8] ^= 1 << bit % 8
    assert not valid(public_key(ALICE), bytes(signature))


@pytest.mark.parametrize("multiple", [1, 2, 15])
def test_s_has_one_spelling(multiple: int) -> None:
    key, signature = signature_of(5, 7)
    s = int.from_bytes(signature[32:], "little") + multiple * L
    assert s < 2**256
    assert not valid(key, signature[:32] + s.to_bytes(32, "little"))


def test_s_equal_to_the_order_is_refused() -> None:
    key, _ = signature_of(5, 7)
    assert not valid(key, encode(times(3, BASE)) + L.to_bytes(32, "little"))


@pytest.mark.parametrize("index", range(8))
def test_keys_and_commitments_of_small_order_are_refused(index: int) -> None:
    for small in spellings(TORSION[index]):
        # A of small order: S = r signs whatever message makes h a multiple of the order; try until one would.
        for attempt in range(64):
            message = MESSAGE + bytes([attempt])
            r = encode(times(7, BASE))
            assert not valid(small, r + (7).to_bytes(32, "little"), message)
        # R of small order under an honest key.
        a = 5
        key = encode(times(a, BASE))
        s = challenge(small, key) * a % L
        assert not valid(key, small + s.to_bytes(32, "little"))
        assert not valid(small, small + bytes(32))


def test_points_that_are_not_canonical_are_refused() -> None:
    """y and y + p name one point; only the first is a spelling."""
    aliases = [y + P for y in range(19) if decode(y.to_bytes(32, "little"))]
    assert len(aliases) > 5
    key, signature = signature_of(5, 7)
    for alias in aliases:
        for bit in (0, 1):
            data = (alias | bit << 255).to_bytes(32, "little")
            assert not valid(data, signature)
            assert not valid(key, data + signature[32:])


def test_points_of_mixed_order_are_judged_without_the_cofactor() -> None:
    """Such keys can be made on purpose; what counts is that every node says the same of them."""
    verdicts = []
    for a_index in range(8):
        for r_index in range(8):
            message = MESSAGE + bytes([a_index, r_index])
            key, signature = signature_of(5, 7, TORSION[a_index], TORSION[r_index], message)
            expected = holds_without_cofactor(key, signature, message)
            assert valid(key, signature, message) == expected
            verdicts.append(expected)
    assert {True, False} == set(verdicts)


def test_bytes_that_are_no_point_are_refused() -> None:
    key, signature = signature_of(5, 7)
    no_point = next(data for data in (y.to_bytes(32, "little") for y in range(2, 99)) if decode(data) is None)
    assert not valid(no_point, signature)
    assert not valid(key, no_point + signature[32:])


@pytest.mark.parametrize(("key_bytes", "signature_bytes"), [(31, 64), (33, 64), (0, 64), (32, 63), (32, 65), (32, 0)])
def test_other_lengths_are_refused(key_bytes: int, signature_bytes: int) -> None:
    key, signature = signature_of(5, 7)
    assert not valid((key + bytes(1))[:key_bytes], (signature + bytes(1))[:signature_bytes])
