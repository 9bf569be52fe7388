"""The learning gates: what a model must achieve to earn its block (paper sections 4.1, 4.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.bnn.distance import near_rows, prediction_difference
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.lineage import novel_flip_count
from bnnchain.consensus.params import BP, Params, share_ceil

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.bnn.encoding import FlipPositions
    from bnnchain.consensus.state import DatasetState, FamilyState
    from bnnchain_kernels.model import Architecture, Model, UInt8Array

MIN_ROW_WEIGHTS = 64
"""Neurons of fewer weights are alike by chance."""
MAX_COMPARED_FAMILIES = 256
"""A model's rows are compared with those of the youngest families, so that a long chain does not slow down."""


def required_gain(family: FamilyState, pool_size: int, elapsed_s: int, params: Params) -> int:
    """Return the samples a child must gain over its parent; at least one.

    ``base >> floor(elapsed / halflife)``, where base is ``min_population_acc`` of the pool or a share of the last gain.
    """
    if params.gain_of_last_bp and family.last_gain:
        base = family.last_gain * params.gain_of_last_bp // BP
    else:
        base = share_ceil(pool_size, params.min_population_acc_bp)
    halvings = elapsed_s // params.gain_halflife_s if params.gain_halflife_s else 0
    return max(1, base >> halvings)


def required_flips(architecture: Architecture, params: Params) -> int:
    """Return the weights in which a child must differ from its parent, and the novel ones among them."""
    return share_ceil(architecture.weight_count, params.min_population_diff_bp)


def required_accuracy(entry: DatasetState, params: Params) -> int:
    """Return the samples of its pool that a data set's founding models must label right."""
    share_bp = params.min_family_acc_bp if entry.min_family_acc_bp is None else entry.min_family_acc_bp
    return share_ceil(entry.manifest.pool_size, share_bp)


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


def validate_accuracy(claimed: int, entry: DatasetState, params: Params) -> None:
    """Raise ``bad-family-accuracy`` where a founding model's claimed count is too low."""
    wanted = required_accuracy(entry, params)
    if claimed < wanted:
        raise Invalid("bad-family-accuracy", correct=claimed, wanted=wanted)


def validate_above_majority(correct: int, majority: int, pool_size: int, params: Params) -> None:
    """Raise ``bad-family-accuracy`` where a founder is little better than naming the commonest class always.

    Ruling: an uploader states the least accuracy, but its manifest does not say how the labels are spread.
    """
    wanted = majority + share_ceil(pool_size, params.majority_margin_bp)
    if correct < wanted:
        raise Invalid("bad-family-accuracy", correct=correct, wanted=wanted, commonest_class=majority)


def validate_rows(model: Model, others: Sequence[Model], params: Params, *, parent: Model | None = None) -> None:
    """Raise ``bad-row-reuse`` where too many neurons are nearly those of other families' models (paper section 4.1).

    A row of K >= 64 weights is reused where it, or its negation, which is the same neuron to the next layer, lies
    within K // 8 bits of a row of equal K of one of ``others``.  A child may keep as many as its parent has: ruling,
    else a family would be stopped by another that copies it.
    """
    reused, total = near_rows(model, others, MIN_ROW_WEIGHTS)
    allowed = total * params.max_shared_rows_bp // BP
    if reused > allowed and parent is not None:
        allowed = max(allowed, near_rows(parent, others, MIN_ROW_WEIGHTS)[0])
    if reused > allowed:
        raise Invalid("bad-row-reuse", reused=reused, rows=total)


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
