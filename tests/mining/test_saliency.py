"""Saliency points at flips that help, layer by layer, for every shape the types allow."""

from __future__ import annotations

import numpy as np
import pytest
from mining.searching import toy_problem
from random_networks import random_architecture, random_model, random_samples

from bnnchain.bnn.encoding import apply_flips
from bnnchain.bnn.zoo import architecture
from bnnchain.datasets.digits import load_digits
from bnnchain.mining import saliency
from bnnchain.mining.operators import GuidedFlips, Situation
from bnnchain.mining.saliency import flip_saliency
from bnnchain.mining.straight_through import StraightThroughFounder
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.model import Architecture, Dense, build_model
from bnnchain_kernels.reference import ReferenceEvaluator
from bnnchain_kernels.select import select


@pytest.mark.parametrize("seed", range(15))
def test_every_shape_has_a_finite_saliency_per_weight(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    model = random_model(rng, shape)
    salient = flip_saliency(model, random_samples(rng, shape, 40), np.arange(40))
    assert salient.dtype == np.float32
    assert salient.shape == (shape.weight_count,)
    assert np.isfinite(salient).all()


def test_batches_are_weighted_by_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    # One dense layer: no statistics of the batch are involved, so that batches must add up exactly.
    rng = np.random.default_rng(1)
    shape = Architecture(4, 4, 2, (Dense(5),))
    model, samples = random_model(rng, shape), random_samples(rng, shape, 50)
    whole = flip_saliency(model, samples, np.arange(50))
    monkeypatch.setattr(saliency, "BATCH_IMAGES", 16)
    np.testing.assert_allclose(flip_saliency(model, samples, np.arange(50)), whole, atol=1e-6)


def test_last_layer_saliency_orders_flips_by_the_loss_they_save() -> None:
    rng = np.random.default_rng(2)
    shape = Architecture(5, 5, 1, (Dense(3),))
    model = build_model(shape, [rng.random((3, 25)) < 0.5], [], [0, 0, 0])
    samples = random_samples(rng, shape, 300)
    scale = 2.0 ** -round(np.log2(25) / 2)

    def loss(flips: list[int]) -> float:
        child = apply_flips(model, np.array(flips, np.int64))
        logits = ReferenceEvaluator(samples).logits(child, 0, 300) * scale
        return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(300), samples.labels]))

    saved = np.array([loss([]) - loss([flip]) for flip in range(75)])
    assert np.corrcoef(saved, flip_saliency(model, samples, np.arange(300)))[0, 1] > 0.9


def test_promising_flips_help_more_than_others() -> None:
    pool = load_digits().pool
    evaluator = select("auto")(pool)
    parent = (
        StraightThroughFounder()
        .found(architecture("cnn-digits"), pool, evaluator, seed=1, max_epochs=20, target_correct=1100)
        .model
    )
    base = count_correct(evaluator, parent, len(pool))
    order = np.argsort(-flip_saliency(parent, pool, np.arange(len(pool))))
    change = np.array(
        [
            count_correct(evaluator, apply_flips(parent, flip[None]), len(pool)) - base
            for flip in (*order[:600], *order[-600:])
        ]
    )
    assert np.mean(change[:600] > 0) > 2 * np.mean(change[600:] > 0)
    assert change[:600].mean() > change[600:].mean()


def test_guided_flips_are_promising_eligible_and_repeatable() -> None:
    parent, samples = toy_problem(1)
    weights = np.zeros(parent.architecture.weight_count, np.bool_)
    eligible = np.arange(0, len(weights), 2)
    situation = Situation(parent, weights, (), eligible)
    runs = []
    for seed in (1, 1, 2):
        operator, rng = GuidedFlips(samples), np.random.default_rng(seed)
        runs.append([operator.propose(situation, rng).flips for _ in range(300)])
    flat = [np.concatenate(run) for run in runs]
    np.testing.assert_array_equal(flat[0], flat[1])
    assert not np.array_equal(flat[0][:50], flat[2][:50])
    assert np.isin(flat[0], eligible).all()
    assert {len(flips) for flips in runs[0]} <= {0, 1, 2, 3}
    # Two draws of images were judged by, so up to two shares of the weights may appear.
    assert len(np.unique(flat[0])) <= 2 * GuidedFlips.PROMISING_SHARE * len(weights)
