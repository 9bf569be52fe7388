from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from builders import make_params, random_model, tiny_dataset
from hypothesis import given
from hypothesis import strategies as st

from bnnchain.bnn.encoding import apply_flips, flat_weights
from bnnchain.consensus import learning
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.lineage import new_family, novel_flip_count, novel_flips, novelty_of, with_child, with_founder
from bnnchain.consensus.params import share_ceil
from bnnchain.consensus.state import FamilyState, ModelRecord, own_dataset
from bnnchain.consensus.types import BlockId, DatasetId, Height, ModelHash, PublicKey
from bnnchain_kernels.model import Architecture, Dense, Model

SHAPE = Architecture(1, 5, 1, (Dense(2), Dense(2)))
WEIGHTS = SHAPE.weight_count
BASE = random_model(SHAPE, 3)


def record(model: Model, correct: int = 0, generation: int = 0, height: int = 1) -> ModelRecord:
    return ModelRecord(
        model=model,
        model_hash=ModelHash(bytes([generation]) * 32),
        block_id=BlockId(bytes([height]) * 32),
        height=Height(height),
        generation=generation,
        correct=correct,
        miner=PublicKey(bytes(32)),
    )


def family(correct: int = 100, last_gain: int = 0) -> FamilyState:
    return replace(new_family(0, DatasetId(bytes(32)), record(BASE, correct), 0), last_gain=last_gain)


def flips(*positions: int) -> np.ndarray:
    return np.array(positions, np.int64)


def evolve(parent: FamilyState, *positions: int, gain: int = 1) -> FamilyState:
    child = apply_flips(parent.best.model, flips(*positions))
    return with_child(parent, record(child, parent.best.correct + gain, parent.generation + 1))


@pytest.mark.parametrize(
    ("pool", "elapsed_s", "last_gain", "params", "gain"),
    [
        (700, 0, 0, {"min_population_acc_bp": 0}, 1),
        (700, 0, 0, {"min_population_acc_bp": 100}, 7),
        (701, 0, 0, {"min_population_acc_bp": 100}, 8),
        (700, 10**9, 50, {"min_population_acc_bp": 100}, 7),
        (700, 0, 50, {"gain_of_last_bp": 7_500, "min_population_acc_bp": 100}, 37),
        (700, 0, 0, {"gain_of_last_bp": 7_500, "min_population_acc_bp": 100}, 7),
        (700, 0, 1, {"gain_of_last_bp": 7_500}, 1),
        (700, 29, 0, {"min_population_acc_bp": 100, "gain_halflife_s": 30}, 7),
        (700, 30, 0, {"min_population_acc_bp": 100, "gain_halflife_s": 30}, 3),
        (700, 60, 0, {"min_population_acc_bp": 100, "gain_halflife_s": 30}, 1),
        (700, 1 << 63, 0, {"min_population_acc_bp": 100, "gain_halflife_s": 30}, 1),
    ],
)
def test_the_demanded_gain(pool: int, elapsed_s: int, last_gain: int, params: dict[str, int], gain: int) -> None:
    wanted = learning.required_gain(family(last_gain=last_gain), pool, elapsed_s, make_params(**params))
    assert wanted == gain


@pytest.mark.parametrize(("claimed", "is_enough"), [(106, False), (107, True), (0, False)])
def test_a_gain_below_what_is_demanded_is_refused(claimed: int, is_enough: bool) -> None:
    params = make_params(min_population_acc_bp=100)
    if is_enough:
        learning.validate_gain(family(), claimed, 700, 0, params)
        return
    with pytest.raises(Invalid, match="bad-gain"):
        learning.validate_gain(family(), claimed, 700, 0, params)


@pytest.mark.parametrize(("claimed", "is_enough"), [(350, False), (351, True), (352, True)])
def test_a_founder_below_the_chains_accuracy_is_refused(claimed: int, is_enough: bool) -> None:
    params, entry = make_params(min_family_acc_bp=5_000), own_dataset(tiny_dataset(701).manifest)
    if is_enough:
        learning.validate_accuracy(claimed, entry, params)
        return
    with pytest.raises(Invalid, match="bad-family-accuracy"):
        learning.validate_accuracy(claimed, entry, params)


@given(st.integers(0, 10**8), st.integers(0, 10_000))
def test_thresholds_round_up(count: int, share_bp: int) -> None:
    wanted = share_ceil(count, share_bp)
    assert wanted * 10_000 >= count * share_bp > (wanted - 1) * 10_000


@pytest.mark.parametrize(
    ("limits", "is_allowed"),
    [
        ({"max_connection_count": WEIGHTS, "max_gate_macs": WEIGHTS * 700}, True),
        ({"max_connection_count": WEIGHTS - 1}, False),
        ({"max_gate_macs": WEIGHTS * 700 - 1}, False),
    ],
)
def test_sizes_are_bounded(limits: dict[str, int], is_allowed: bool) -> None:
    if is_allowed:
        learning.validate_size(SHAPE, 700, make_params(**limits))
        return
    with pytest.raises(Invalid, match="bad-model-size"):
        learning.validate_size(SHAPE, 700, make_params(**limits))


@pytest.mark.parametrize(("different", "is_enough"), [(0, False), (6, False), (7, True), (700, True)])
def test_founders_must_predict_differently(different: int, is_enough: bool) -> None:
    own, other = np.zeros(700, np.uint8), np.zeros(700, np.uint8)
    other[:different] = 1
    params = make_params(min_family_diff_bp=100)
    far = np.ones(700, np.uint8)
    if is_enough:
        learning.validate_founder_difference(own, [far, other], params)
        return
    with pytest.raises(Invalid, match="bad-family-diff"):
        learning.validate_founder_difference(own, [far, other], params)


def test_before_the_first_child_every_flip_is_novel() -> None:
    assert novel_flips(family()).all()
    assert novel_flip_count(family(), flips(0, 3, 5)) == 3


def test_a_value_counts_as_used_once_a_model_of_the_epoch_had_it() -> None:
    grown = evolve(family(), 0, 1)
    assert np.flatnonzero(~novel_flips(grown)).tolist() == [0, 1]
    grown = evolve(grown, 2)
    assert np.flatnonzero(~novel_flips(grown)).tolist() == [0, 1, 2]
    params = make_params(min_population_diff_bp=1_400)
    learning.validate_difference(grown, flips(0, 3, 4), params)
    for bad, code in ((flips(3), "bad-model-diff"), (flips(0, 1, 3), "bad-novelty"), (flips(0, 1), "bad-novelty")):
        with pytest.raises(Invalid, match=code):
            learning.validate_difference(grown, bad, params)


def test_when_half_the_weights_have_had_both_values_an_epoch_starts_from_the_child() -> None:
    assert WEIGHTS == 14
    grown = evolve(family(), 0, 1, 2, 3, 4, 5)
    assert np.count_nonzero(~novel_flips(grown)) == 6
    grown = evolve(grown, 6)
    assert novel_flips(grown).all()
    ones = flat_weights(grown.best.model)
    seen_one = np.unpackbits(novelty_of(grown).seen_one, count=WEIGHTS, bitorder="little").astype(bool)
    assert (seen_one == ones).all()


@given(st.lists(st.lists(st.integers(0, WEIGHTS - 1), unique=True, max_size=4), max_size=12))
def test_novelty_is_what_a_plain_history_says(steps: list[list[int]]) -> None:
    grown, epoch = family(), [flat_weights(BASE)]
    for positions in steps:
        grown = evolve(grown, *positions)
        epoch.append(flat_weights(grown.best.model))
        values = np.array(epoch)
        both = values.any(axis=0) & ~values.all(axis=0)
        if 2 * np.count_nonzero(both) >= WEIGHTS:
            epoch = [epoch[-1]]
            both = np.zeros(WEIGHTS, bool)
        assert (novel_flips(grown) == ~both).all()


def test_a_child_moves_its_family_on() -> None:
    grown = evolve(family(correct=100), 0, gain=9)
    assert (grown.generation, grown.model_count, grown.last_gain, grown.best.correct) == (1, 2, 9, 109)
    assert grown.latest is grown.best
    assert len(grown.founders) == 1


@pytest.mark.parametrize(("correct", "is_best"), [(99, False), (100, True), (101, True)])
def test_the_best_founder_is_the_parent_and_of_equals_the_latest(correct: int, is_best: bool) -> None:
    grown = with_founder(family(correct=100), record(random_model(SHAPE, 4), correct, height=2))
    assert (grown.best is grown.latest) is is_best
    assert grown.latest.height == 2
    assert grown.model_count == len(grown.founders) == 2
    assert grown.generation == 0


def test_a_late_founder_that_becomes_the_parent_starts_its_own_epoch() -> None:
    """Only where a schedule raises min_population on a family that evolves: values of another line do not count."""
    grown = evolve(family(), 0, 1)
    weaker = with_founder(grown, record(random_model(SHAPE, 5), 0))
    assert np.count_nonzero(~novel_flips(weaker)) == 2
    stronger = with_founder(grown, record(random_model(SHAPE, 5), 999))
    assert novel_flips(stronger).all()
