"""Writes ``bnnchain_fpga/golden.json`` from the reference kernel.  Run only when the meaning of a model changes.

python fpga/make_golden.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from bnnchain_fpga.golden import GoldenVector, encode_vector
from bnnchain_kernels.evaluator import Samples
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, build_model
from bnnchain_kernels.reference import ReferenceEvaluator

SHAPES = {
    "rows-pool-conv-dense": (Architecture(11, 9, 1, (Conv3x3(5, pool=True), Conv3x3(20), Dense(10))), 17),
    "planes-conv-pool-dense": (Architecture(6, 7, 4, (Conv3x3(33, pool=True), Dense(18), Dense(3))), 5),
    "dense-many-classes": (Architecture(5, 9, 1, (Dense(40), Dense(35))), 3),
}
SEED = 5


def main() -> None:
    """Write the file."""
    rng = np.random.default_rng(SEED)
    entries = []
    for name, (architecture, count) in SHAPES.items():
        weights = [rng.random((layer.out_channels, layer.fan_in)) < 0.5 for layer in architecture.geometry]  # noqa: PLR2004
        thresholds = [
            np.clip(rng.normal(layer.fan_in / 2, layer.fan_in**0.5 / 2, layer.out_channels), 0, layer.fan_in + 1)
            for layer in architecture.geometry[:-1]
        ]
        # Equal neighbours make ties, which the lowest class must win.
        weights[-1][1] = weights[-1][0]
        biases = rng.integers(-4, 5, architecture.classes)
        biases[1] = biases[0]
        model = build_model(architecture, weights, [limits.astype(np.int32) for limits in thresholds], biases)
        octets = np.packbits(rng.random((count, architecture.input_bits)) < 0.5, axis=1, bitorder="little")  # noqa: PLR2004
        labels = rng.integers(0, architecture.classes, count).astype(np.uint8)
        samples = Samples(
            architecture.height, architecture.width, architecture.planes, architecture.classes, octets, labels
        )
        logits = ReferenceEvaluator(samples).logits(model, 0, count)
        entries.append(encode_vector(GoldenVector(name, model, samples, logits)))
    target = Path(__file__).parent / "bnnchain_fpga" / "golden.json"
    target.write_text("[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n]\n")


if __name__ == "__main__":
    main()
