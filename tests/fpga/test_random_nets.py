"""The real driver on the real RTL: every prediction and every logit of random nets equals the reference."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fpga.nets import draw_architecture, label_by_model, make_model, make_samples, make_tied_model

from bnnchain_fpga.compile import DoesNotFit
from bnnchain_fpga.cycles import model_throughput
from bnnchain_fpga.driver import Driver
from bnnchain_fpga.images import pack_images
from bnnchain_kernels.evaluator import predict
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, build_model
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from bnnchain_fpga.simulated_board import SimulatedBoard

NETS, SHARDS = 5_200 if os.environ.get("BNNCHAIN_FPGA_LONG") else 520, 4

EDGES = [
    Architecture(1, 1, 1, (Dense(2),)),
    Architecture(3, 3, 1, (Conv3x3(1), Dense(2))),
    Architecture(4, 4, 1, (Conv3x3(1, pool=True), Dense(2))),
    Architecture(32, 32, 1, (Conv3x3(17, pool=True), Dense(10))),
    Architecture(30, 33, 1, (Conv3x3(3, pool=True), Dense(10))),
    Architecture(60, 3, 1, (Conv3x3(16), Dense(10))),
    Architecture(3, 32, 1, (Conv3x3(33), Dense(10))),
    Architecture(5, 5, 64, (Conv3x3(64, pool=True), Dense(64), Dense(256))),
    Architecture(28, 28, 1, (Conv3x3(1), Conv3x3(1), Conv3x3(1, pool=True), Dense(1), Dense(10))),
    Architecture(16, 16, 64, (Dense(70), Dense(10))),
    Architecture(6, 6, 20, (Conv3x3(20), Conv3x3(20, pool=True), Dense(3))),
]


def check(board: SimulatedBoard, seed: int, architecture: Architecture, *, tied: bool = False) -> None:
    rng = np.random.default_rng([seed, 1])
    model = (make_tied_model if tied else make_model)(rng, architecture)
    samples = label_by_model(rng, model, make_samples(rng, architecture, int(rng.integers(1, 40))))
    driver = Driver(board)
    compiled = driver.compile(model)
    driver.load(model, compiled)
    want_logits = seed % 8 != 0
    run = driver.run(pack_images(samples, compiled.plan, driver.capabilities), want_logits=want_logits)
    logits = ReferenceEvaluator(samples).logits(model, 0, len(samples))
    context = f"seed {seed}: {architecture}"
    assert np.array_equal(run.predictions, predict(logits)), context
    assert run.correct == np.count_nonzero(predict(logits) == samples.labels), context
    if want_logits:
        assert run.logits is not None
        assert np.array_equal(run.logits, logits), context
    modelled = model_throughput(compiled.plan, driver.capabilities).layers
    assert driver.layer_cycles(len(modelled)) == tuple(layer.modelled for layer in modelled), context
    assert run.cycles == board.cycles_to_interrupt, context


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_logit_of_random_nets_equals_the_reference(board: SimulatedBoard, shard: int) -> None:
    # One board for a whole shard: a small net after a large one must not see its leftovers.
    refused = 0
    for seed in range(shard, NETS, SHARDS):
        rng = np.random.default_rng(seed)
        architecture = draw_architecture(rng, max_classes=int(rng.choice([2, 10, 40])))
        try:
            check(board, seed, architecture, tied=seed % 7 == 3)
        except DoesNotFit:
            refused += 1
    assert refused < NETS // SHARDS // 20


@pytest.mark.parametrize("architecture", EDGES, ids=str)
def test_edges_of_what_the_types_allow(board: SimulatedBoard, architecture: Architecture) -> None:
    for seed in (1, 2):
        check(board, seed, architecture, tied=seed == 2)


def test_largest_fan_in_and_extreme_biases(board: SimulatedBoard) -> None:
    # 63,488 inputs are 1,984 words, about the most that two input buffers leave room for.  All matching gives P = K,
    # none gives P = 0: both ends of the accumulator.
    architecture = Architecture(32, 32, 62, (Dense(2), Dense(2)))
    driver = Driver(board)
    rng = np.random.default_rng(3)
    samples = make_samples(rng, architecture, 3)
    inputs = samples.unpack(0, 1).reshape(1, -1).astype(bool)
    fan_in = architecture.geometry[0].fan_in
    for limit in (0, 1, fan_in, fan_in + 1):
        for bias in (-(1 << 20), 1 << 20):
            weights = [np.vstack([inputs, ~inputs]), rng.random((2, 2)) < 0.5]
            model = build_model(architecture, weights, [[limit, limit]], [bias, bias])
            compiled = driver.compile(model)
            driver.load(model, compiled)
            run = driver.run(pack_images(samples, compiled.plan, driver.capabilities), want_logits=True)
            assert np.array_equal(run.logits, ReferenceEvaluator(samples).logits(model, 0, 3)), (limit, bias)
