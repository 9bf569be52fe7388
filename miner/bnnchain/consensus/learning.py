"""The learning gates: what a model must achieve to earn its block (paper sections 4.1, 4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.bnn.distance import prediction_difference
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.lineage import novel_flip_count
from bnnchain.consensus.params import BP, Params, share_ceil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.bnn.encoding import FlipPositions
    from bnnchain.consensus.state import FamilyState
    from bnnchain_kernels.model import Architecture, UInt8Array


def required_gain(family: FamilyState, pool_size: int, elapsed_s: int, params: Params) -> int:
    """Return the samples a child must gain over its parent; at least one.

    ``base >> floor(elapsed / halflife)``, where base is ``min_population_acc`` of the pool or a share of the last gain.
    """
    if params.gain_of_last_bp and family.last_gain:
        base = family.last_gain * params.gain_of_last_bp // BP
    else:
        base = share_ceil(pool_size, params.min_population_acc_bp)
    halvings = max(0, elapsed_s) // params.gain_halflife_s if params.gain_halflife_s else 0
    return max(1, base >> halvings)


def required_flips(architecture: Architecture, params: Params) -> int:
    """Return the weights in which a child must differ from its parent, and the novel ones among them."""
    return share_ceil(architecture.weight_count, params.min_population_diff_bp)


def required_accuracy(pool_size: int, params: Params) -> int:
    """Return the samples a founding model must label right."""
    return share_ceil(pool_size, params.min_family_acc_bp)


def validate_size(architecture: Architecture, pool_size: int, params: Params) -> None:
    """Raise :class:`Invalid` ``bad-model-size`` where a model is larger, or costlier to gate, than allowed."""
    work = architecture.mac_count * pool_size
    if architecture.weight_count > params.max_connection_count or work > params.max_gate_macs:
        raise Invalid("bad-model-size", weights=architecture.weight_count, gate_macs=work)


def validate_difference(family: FamilyState, flips: FlipPositions, params: Params) -> None:
    """Raise ``bad-model-diff`` or ``bad-novelty`` where a child differs too little from its parent."""
    wanted = required_flips(family.architecture, params)
    if len(flips) < wanted:
        raise Invalid("bad-model-diff", flips=len(flips), wanted=wanted)
    novel = novel_flip_count(family, flips)
    if novel < wanted:
        raise Invalid("bad-novelty", novel=novel, wanted=wanted)


def validate_gain(family: FamilyState, claimed: int, pool_size: int, elapsed_s: int, params: Params) -> None:
    """Raise ``bad-gain`` where the claimed count is not enough above the parent's."""
    gain, wanted = claimed - family.best.correct, required_gain(family, pool_size, elapsed_s, params)
    if gain < wanted:
        raise Invalid("bad-gain", gain=gain, wanted=wanted)


def validate_accuracy(claimed: int, pool_size: int, params: Params) -> None:
    """Raise ``bad-family-accuracy`` where a founding model's claimed count is too low."""
    wanted = required_accuracy(pool_size, params)
    if claimed < wanted:
        raise Invalid("bad-family-accuracy", correct=claimed, wanted=wanted)


def validate_founder_difference(predictions: UInt8Array, others: Sequence[UInt8Array], params: Params) -> None:
    """Raise ``bad-family-diff`` where a founder predicts too much like another of its family.

    predictions: ``uint8[pool]`` classes; others: the same of each earlier founder.  Predictions are compared, not
    weights: weights could be permuted clones.
    """
    wanted = share_ceil(len(predictions), params.min_family_diff_bp)
    for other in others:
        difference = prediction_difference(predictions, other)
        if difference < wanted:
            raise Invalid("bad-family-diff", difference=difference, wanted=wanted)
