"""Targets and weights: ASERT (aserti3-2d) in integers, or a fixed target where the lottery is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.consensus.types import MAX_TARGET

if TYPE_CHECKING:
    from bnnchain.consensus.params import Params
    from bnnchain.consensus.state import ChainState

HALFLIFE_INTERVALS = 10
"""The half-life of the target is this many block intervals."""
_RADIX_BITS = 16


def next_target(state: ChainState, params: Params) -> int:
    """Return the target of the block after ``state``."""
    if params.is_lottery_open:
        return MAX_TARGET
    spec = state.spec
    return asert(
        spec.initial_target,
        # The anchor's parent, which genesis has not, would be one interval older: so the first target is the spec's.
        state.timestamp - spec.genesis_time + params.block_interval_s,
        state.height,
        params.block_interval_s,
        HALFLIFE_INTERVALS * params.block_interval_s,
    )


def asert(anchor_target: int, time_delta_s: int, height_delta: int, interval_s: int, halflife_s: int) -> int:
    """Return the target by aserti3-2d, exact in integers, within 1..2**256-1.

    time_delta_s counts from the anchor's parent, height_delta from the anchor.  The cubic approximates 2**x (Bitcoin
    Cash, 2020); the exponent floors.
    """
    exponent = ((time_delta_s - interval_s * (height_delta + 1)) << _RADIX_BITS) // halflife_s
    shifts, fraction = exponent >> _RADIX_BITS, exponent & ((1 << _RADIX_BITS) - 1)
    cubic = 195_766_423_245_049 * fraction + 971_821_376 * fraction**2 + 5_127 * fraction**3
    factor = (1 << _RADIX_BITS) + ((cubic + (1 << 47)) >> 48)
    target, shifts = anchor_target * factor, shifts - _RADIX_BITS
    if shifts > MAX_TARGET.bit_length():
        return MAX_TARGET
    target = target << shifts if shifts >= 0 else target >> -shifts
    return max(1, min(target, MAX_TARGET))


def block_weight(target: int) -> int:
    """Return the expected number of tickets that a target stands for."""
    return (1 << 256) // (target + 1)
