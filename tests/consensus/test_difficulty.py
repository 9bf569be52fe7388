"""ASERT against the published aserti3-2d (Bitcoin Cash, 2020) and against exact arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from builders import GENESIS_TIME, make_spec
from hypothesis import given
from hypothesis import strategies as st

from bnnchain.consensus.difficulty import asert, block_weight, next_target
from bnnchain.consensus.fork_choice import is_better
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import MAX_TARGET

INTERVAL_S, HALFLIFE_S = 600, 2 * 24 * 3_600
"""Bitcoin Cash's constants, for its published behaviour."""
ANCHOR = 1 << 200
times = st.integers(-(10**9), 10**9)
heights = st.integers(0, 10**6)


def published(target: int, time_delta_s: int, height_delta: int, *, floors: bool) -> int:
    """Return what bitcoin-cash-node's CalculateASERT returns, before it is packed into nBits.

    floors: its C++ division drops towards zero where ours floors (PROTOCOL.md, section 7).
    """
    numerator = (time_delta_s - INTERVAL_S * (height_delta + 1)) * 65_536
    exponent = abs(numerator) // HALFLIFE_S * (1 if numerator >= 0 else -1)
    exponent -= floors and numerator < 0 and numerator % HALFLIFE_S != 0
    shifts, frac = exponent >> 16, exponent % 65_536
    factor = 65_536 + ((195_766_423_245_049 * frac + 971_821_376 * frac**2 + 5_127 * frac**3 + (1 << 47)) >> 48)
    shifts -= 16
    result = target * factor
    return result >> -shifts if shifts <= 0 else result << shifts


@given(times, heights)
def test_asert_is_the_published_algorithm_but_for_its_rounding(time_delta_s: int, height_delta: int) -> None:
    ours = asert(ANCHOR, time_delta_s, height_delta, INTERVAL_S, HALFLIFE_S)
    assert ours == max(1, min(published(ANCHOR, time_delta_s, height_delta, floors=True), MAX_TARGET))


PUBLISHED = (
    ("1d00ffff", 1, 0, ((2, 1_200, "1d00ffff"), (11, 6_600, "1d00ffff"))),
    ("01010000", 1, 0, ((2, 1_200, "01010000"), (11, 6_600, "01010000"))),
    (
        "1d00ffff", 1, 0,
        ((2, 0, "1d00fec5"), (290, 0, "1c7f62c0"), (578, 0, "1c3fb160"), (5_186, 0, "1a3fb160"),
         (28_226, 0, "103fb160"), (47_522, 0, "0807f62c"),
         (60_194, 0, "027f6200"), (63_938, 0, "01030000"), (64_514, 0, "01010000")),
    ),
    (
        "1802aee8", 1, 0,
        ((2, 1_200, "1802aee8"), (3, 1_310, "1802ad91"), (9, 7_099, "1802b39c"), (12, 8_626, "1802b2db"),
         (22, 18_902, "1802bed6"), (54, 37_423, "1802bcee"), (98, 61_599, "1802b6ae"), (126, 77_005, "1802b2cb"),
         (156, 93_523, "1802aeb2"), (188, 115_789, "1802b735"), (264, 167_970, "1802c9d7"), (315, 202_203, "1802d455"),
         (552, 338_121, "1802c249"), (575, 358_636, "1802d597"), (620, 378_438, "1802c0ec")),
    ),
    (
        "1802aee8", 2_147_483_642, 1_234_567_290,
        ((2_147_483_643, 1_234_568_190, "1802ae16"), (2_147_483_647, 1_234_569_390, "1802aacd"),
         (2_147_483_648, 1_234_569_690, "1802a9fa"), (2_147_483_652, 1_234_570_890, "1802a6b7")),
    ),
)  # fmt: skip
"""Of the test vectors that the specification of 2020-11-15 names, runs 1, 3, 5, 6 and 9, some lines each: the anchor's
nBits, height and its parent's time, then height, time and nBits of the block after."""
POW_LIMIT = 0xFFFF << 208


def unpacked(bits: str) -> int:
    size, mantissa = *bytes.fromhex(bits[:2]), int.from_bytes(bytes.fromhex(bits[2:]), "big")
    return mantissa << 8 * (size - 3) if size >= 3 else mantissa >> 8 * (3 - size)


def packed(target: int) -> str:
    size = -(-target.bit_length() // 8)
    mantissa = target >> 8 * (size - 3) if size >= 3 else target << 8 * (3 - size)
    return f"{size + 1:02x}{mantissa >> 8:06x}" if mantissa & 0x800000 else f"{size:02x}{mantissa:06x}"


LINES = [(bits, height, time, *line) for bits, height, time, lines in PUBLISHED for line in lines]


@pytest.mark.parametrize(("anchor", "anchor_height", "anchor_time", "height", "time", "bits"), LINES)
def test_the_published_cases(
    anchor: str, anchor_height: int, anchor_time: int, height: int, time: int, bits: str
) -> None:
    given_ = (unpacked(anchor), time - anchor_time, height - anchor_height)
    theirs = max(1, min(published(*given_, floors=False), POW_LIMIT))
    assert packed(theirs) == bits
    ours = min(asert(*given_, INTERVAL_S, HALFLIFE_S), POW_LIMIT)
    numerator = (given_[1] - INTERVAL_S * (given_[2] + 1)) * 65_536
    if numerator >= 0 or numerator % HALFLIFE_S == 0:
        assert packed(ours) == bits
    else:
        assert theirs * 65_530 // 65_536 <= ours <= theirs, "one 65,536th of a half-life lower at most"


@pytest.mark.parametrize("halvings", [-20, -3, -1, 0, 1, 2, 30])
def test_a_half_life_of_delay_doubles_the_target_exactly(halvings: int) -> None:
    target = asert(ANCHOR, INTERVAL_S * 11 + HALFLIFE_S * halvings, 10, INTERVAL_S, HALFLIFE_S)
    assert target == (ANCHOR << halvings if halvings >= 0 else ANCHOR >> -halvings)


@given(st.integers(0, 65_535))
def test_the_cubic_is_within_0_013_percent_of_a_power_of_two(step: int) -> None:
    """x**65536 is compared with 2**step in exact fractions, so no float takes part."""
    target = asert(1 << 250, INTERVAL_S + HALFLIFE_S * step // 65_536, 0, INTERVAL_S, HALFLIFE_S)
    exponent = HALFLIFE_S * step // 65_536 * 65_536 // HALFLIFE_S
    ratio = Fraction(target, 1 << 250)
    low, high = ratio * Fraction(99_987, 100_000), ratio * Fraction(100_013, 100_000)
    assert power(low, 16) <= 1 << exponent <= power(high, 16)


def power(value: Fraction, doublings: int) -> Fraction:
    """Return value**(2**doublings), cut to 200 bits after each squaring (an error far below the bound tested)."""
    for _ in range(doublings):
        value *= value
        shift = max(0, value.denominator.bit_length() - 200)
        value = Fraction(value.numerator >> shift, max(1, value.denominator >> shift))
    return value


@given(times, times, heights)
def test_a_later_block_never_has_a_lower_target(first: int, second: int, height_delta: int) -> None:
    early, late = sorted((first, second))
    targets = [asert(ANCHOR, seconds, height_delta, INTERVAL_S, HALFLIFE_S) for seconds in (early, late)]
    assert targets == sorted(targets)


@given(times, heights, heights)
def test_a_higher_block_at_the_same_time_never_has_a_higher_target(seconds: int, first: int, second: int) -> None:
    low, high = sorted((first, second))
    targets = [asert(ANCHOR, seconds, height, INTERVAL_S, HALFLIFE_S) for height in (low, high)]
    assert targets == sorted(targets, reverse=True)


@given(st.integers(1, MAX_TARGET), st.integers(-(1 << 70), 1 << 70), st.integers(0, 1 << 64), st.integers(1, 10**6))
def test_the_target_stays_in_range_whatever_the_clock_says(
    anchor: int, seconds: int, height_delta: int, interval_s: int
) -> None:
    assert 1 <= asert(anchor, seconds, height_delta, interval_s, 10 * interval_s) <= MAX_TARGET


def test_a_chain_on_schedule_keeps_its_first_target() -> None:
    spec = make_spec(initial_target=ANCHOR, is_lottery_open=0, block_interval_s=60)
    state, params = genesis_state(spec), spec.params_at(1)
    targets = {next_target(state, params)}
    for height in range(1, 40):
        state = replace(state, height=height, timestamp=GENESIS_TIME + 60 * height)
        targets.add(next_target(state, params))
    assert targets == {ANCHOR}


def test_an_open_lottery_has_the_largest_target_and_weight_one() -> None:
    spec = make_spec()
    assert next_target(genesis_state(spec), spec.params_at(1)) == MAX_TARGET
    assert block_weight(MAX_TARGET) == 1


@pytest.mark.parametrize(("target", "weight"), [(0, 1 << 256), (1, 1 << 255), ((1 << 255) - 1, 2), (1 << 255, 1)])
def test_weight_is_the_expected_number_of_tickets(target: int, weight: int) -> None:
    assert block_weight(target) == weight


def test_the_heavier_chain_is_better_and_of_equals_the_first() -> None:
    state = genesis_state(make_spec())
    heavier = replace(state, weight=1)
    assert is_better(heavier, state)
    assert not is_better(state, heavier)
    assert not is_better(replace(heavier, height=9), heavier)
