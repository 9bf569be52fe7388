"""A toy problem for search tests: labels come from a teacher, the parent is that teacher with some wrong weights."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from bnnchain.bnn.encoding import apply_flips, model_hash
from bnnchain_kernels.evaluator import Samples, predict
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Int32Array, Model, build_model
from bnnchain_kernels.reference import ReferenceEvaluator

SHAPE = Architecture(6, 6, 1, (Conv3x3(6, pool=True), Dense(4)))
POOL_SIZE = 1100
"""Two whole blocks and a tail of 76 images."""


def toy_problem(seed: int, wrong: int = 14, size: int = POOL_SIZE) -> tuple[Model, Samples]:
    """Return a parent and the pool on which its teacher is always right."""
    rng = np.random.default_rng(seed)
    weights = [rng.random((layer.out_channels, layer.fan_in)) < 0.5 for layer in SHAPE.geometry]
    teacher = build_model(SHAPE, weights, [[6] * 6], [0] * 4)
    images = np.packbits(rng.random((size, SHAPE.input_bits)) < 0.5, axis=1, bitorder="little")
    unlabelled = Samples(6, 6, 1, 4, images, np.zeros(size, np.uint8))
    labels = predict(ReferenceEvaluator(unlabelled).logits(teacher, 0, size))
    flips = np.sort(rng.choice(SHAPE.weight_count, wrong, replace=False)).astype(np.int64)
    return apply_flips(teacher, flips), Samples(6, 6, 1, 4, images, labels)


@dataclass
class SpyEvaluator:
    """The reference, remembering how many images of which model it saw; too plain for any fast way round it."""

    samples: Samples
    backend: str = "spy"
    seen: Counter[bytes] = field(default_factory=Counter)
    """Images by model hash."""

    def correct(self, model: Model, start: int, stop: int) -> Int32Array:
        return ReferenceEvaluator(self.samples).correct(model, start, stop)

    def logits(self, model: Model, start: int, stop: int) -> Int32Array:
        self.seen[model_hash(model)] += stop - start
        return ReferenceEvaluator(self.samples).logits(model, start, stop)
