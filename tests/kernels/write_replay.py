"""Writes random cases with the reference's answers for ``replay.c``: ``write_replay.py FILE LANES,... CASES``.

Every array is preceded by its size in bytes; see ``replay.c`` for their order.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from random_networks import random_architecture, random_model, random_samples

from bnnchain_kernels.reference import ReferenceEvaluator
from bnnchain_kernels.slicing import COUNTER_BITS, counter_bits, padded, plan_architecture, slice_images, slice_labels

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import Samples
    from bnnchain_kernels.model import Model

TAILS = (1, 2, 63, 64, 65, 127, 129, 255, 300, 511, 512, 513)


def write_array(file: BinaryIO, values: Any) -> None:
    data = np.ascontiguousarray(values).tobytes()
    file.write(np.int64(len(data)).tobytes())
    file.write(data)


def write_case(file: BinaryIO, model: Model, samples: Samples, lanes: int, answers: tuple[Any, Any]) -> None:
    architecture = model.architecture
    plan = plan_architecture(architecture)
    layers, fan_in = plan.layers.copy(), architecture.geometry[-1].fan_in
    offsets = model.biases.astype(np.int64) - int(model.biases.min())
    layers[-1, COUNTER_BITS] = counter_bits(fan_in + int(offsets.max() >> 1))
    bits = layers[:, COUNTER_BITS].tolist()
    starts = [(1 << width) - limits.astype(np.int64) for width, limits in zip(bits[:-1], model.thresholds, strict=True)]
    starts.append((offsets >> 1) + ((offsets & 1) << bits[-1]))
    base = int(model.biases.min()) - fan_in
    work = plan.part_vectors[-1] * lanes
    sizes = (lanes, len(samples), len(layers), architecture.classes, plan.code_count, plan.init_count, work, base)
    write_array(file, np.array([*sizes, padded(architecture.input_bits)], np.int64))
    write_array(file, layers)
    write_array(file, np.array(plan.part_vectors[:-1], np.int64) * lanes)
    for rows, start in zip(model.weights, starts, strict=True):
        write_array(file, rows)
        write_array(file, start)
    write_array(file, slice_images(samples, lanes))
    write_array(file, slice_labels(samples, lanes))
    for answer in answers:
        write_array(file, answer)


def main(path: str, lanes_list: str, case_count: str) -> None:
    lanes_each = [int(lanes) for lanes in lanes_list.split(",")]
    with Path(path).open("wb") as file:
        write_array(file, np.array([int(case_count) * len(lanes_each)], np.int64))
        for seed in range(int(case_count)):
            rng = np.random.default_rng(50_000 + seed)
            architecture = random_architecture(rng)
            model = random_model(rng, architecture)
            count = int(rng.choice(TAILS))
            samples = random_samples(rng, architecture, count, model)
            reference = ReferenceEvaluator(samples)
            answers = reference.correct(model, 0, count), reference.logits(model, 0, count)
            for lanes in lanes_each:
                write_case(file, model, samples, lanes, answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
