"""Families over time: founders, best model, generation, and which values each weight has had (paper section 4.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bnnchain.bnn.encoding import flat_weights
from bnnchain.consensus.state import FamilyState, ModelRecord, Novelty

if TYPE_CHECKING:
    from bnnchain.bnn.encoding import FlipPositions
    from bnnchain.consensus.types import DatasetId
    from bnnchain_kernels.model import BoolArray, Model, UInt8Array


def new_family(family_id: int, dataset_id: DatasetId, founder: ModelRecord, offset: int) -> FamilyState:
    """Return a family with its first founder."""
    return FamilyState(
        family_id=family_id,
        dataset_id=dataset_id,
        architecture=founder.model.architecture,
        founders=(founder,),
        best=founder,
        latest=founder,
        generation=0,
        model_count=1,
        join_offset=offset,
        last_gain=0,
        novelty=None,
    )


def with_founder(family: FamilyState, founder: ModelRecord) -> FamilyState:
    """Return the family with one more founding model."""
    is_best = founder.correct >= family.best.correct
    return replace(
        family,
        founders=(*family.founders, founder),
        best=founder if is_best else family.best,
        latest=founder,
        model_count=family.model_count + 1,
        waited_blocks=0,
        # Where a schedule raises min_population on an evolved family: an epoch speaks of one parent's line only.
        novelty=None if is_best else family.novelty,
    )


def with_child(family: FamilyState, child: ModelRecord) -> FamilyState:
    """Return the family with its next generation."""
    return replace(
        family,
        best=child,
        latest=child,
        generation=child.generation,
        model_count=family.model_count + 1,
        waited_blocks=0,
        last_gain=child.correct - family.best.correct,
        novelty=_advance(novelty_of(family), child.model),
    )


def novelty_of(family: FamilyState) -> Novelty:
    """Return the family's record of values; before the first EVOLVE block it holds the values of its parent alone."""
    return family.novelty or _start_epoch(family.best.model)


def novel_flip_count(family: FamilyState, flips: FlipPositions) -> int:
    """Return how many of the flips (``int64[n]`` positions) give a weight a value it has not had in this epoch."""
    return int(np.count_nonzero(novel_flips(family)[flips]))


def novel_flips(family: FamilyState) -> BoolArray:
    """Return ``bool[weight_count]``: the weights whose flip would be novel, for the miner's search."""
    novelty = novelty_of(family)
    return ~_unpack(novelty.seen_zero & novelty.seen_one, family.architecture.weight_count)


def _start_epoch(model: Model) -> Novelty:
    ones = flat_weights(model)
    return Novelty(seen_zero=_pack(~ones), seen_one=_pack(ones))


def _advance(novelty: Novelty, child: Model) -> Novelty:
    # When half the weights have had both values, a new epoch starts from the current parent, which is this child.
    ones = flat_weights(child)
    seen_zero, seen_one = novelty.seen_zero | _pack(~ones), novelty.seen_one | _pack(ones)
    both = _unpack(seen_zero & seen_one, len(ones))
    if 2 * np.count_nonzero(both) >= len(ones):
        return _start_epoch(child)
    return Novelty(seen_zero, seen_one)


def _pack(bits: BoolArray) -> UInt8Array:
    return np.packbits(bits, bitorder="little")


def _unpack(packed: UInt8Array, count: int) -> BoolArray:
    return np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_)
