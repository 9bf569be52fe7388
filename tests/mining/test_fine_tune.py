"""Fine-tuning starts from exactly the model it is given, learns, and gives a move to exactly what it trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from random_networks import random_architecture, random_model, random_samples

from bnnchain.bnn.encoding import canonical_bytes
from bnnchain.bnn.zoo import architecture
from bnnchain.datasets.digits import load_digits
from bnnchain.mining.fine_tune import FineTune, warm_start
from bnnchain.mining.operators import apply_move
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.model import build_model, unpack_weights
from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from bnnchain_kernels.model import Model


def without_biases(model: Model) -> Model:
    return build_model(model.architecture, unpack_weights(model), model.thresholds, 0 * model.biases)


@pytest.mark.parametrize("seed", range(20))
def test_warm_start_exports_the_model_it_was_given(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    model, samples = random_model(rng, shape), random_samples(rng, shape, 60)
    exported = warm_start(model, samples, rng).export()
    assert canonical_bytes(exported) == canonical_bytes(without_biases(model)), f"seed {seed}"
    move = FineTune(model, samples, 10, seed).move()
    assert len(move.flips) == 0
    assert move.steps == ()


@pytest.mark.parametrize("seed", range(6))
def test_move_leads_to_exactly_the_trained_model(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    model, samples = random_model(rng, shape), random_samples(rng, shape, 60)
    tuning = FineTune(model, samples, 12, seed)
    tuning.train(7)
    tuning.train(100)
    child = apply_move(model, tuning.move())
    assert canonical_bytes(without_biases(child)) == canonical_bytes(tuning._network.export())
    np.testing.assert_array_equal(child.biases, model.biases)
    again = FineTune(model, samples, 12, seed)
    again.train(12)
    assert canonical_bytes(apply_move(model, again.move())) == canonical_bytes(child)


def test_a_weak_model_gains() -> None:
    pool = load_digits().pool
    evaluator = select("auto")(pool)
    founder = StraightThroughFounder().found(
        architecture("cnn-digits"), pool, evaluator, seed=1, max_epochs=20, target_correct=900
    )
    children = []
    for seed in (1, 2):
        tuning = FineTune(founder.model, pool, 200, seed)
        tuning.train(200)
        children.append(apply_move(founder.model, tuning.move()))
        assert count_correct(evaluator, children[-1], len(pool)) >= founder.correct + 0.05 * len(pool)
    assert canonical_bytes(children[0]) != canonical_bytes(children[1])
