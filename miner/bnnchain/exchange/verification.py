"""An imported model beside its source: every sum of every hidden neuron, then whole answers on random input."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from bnnchain.datasets.payload import pack_pixels
from bnnchain.exchange.files import describe_unknown
from bnnchain.exchange.provenance import provenance_from_json
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import Samples, predict

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from bnnchain.exchange.assembly import Check
    from bnnchain.exchange.provenance import Provenance
    from bnnchain_kernels.evaluator import EvaluatorFactory
    from bnnchain_kernels.model import Model, UInt8Array

    ScoresOf: TypeAlias = Callable[[UInt8Array], npt.NDArray[np.floating]]

VERIFIED_IMAGES = 512
MIN_VERIFIED_IMAGES = 16
MAX_VERIFIED_BITS = 1 << 26
"""Fewer images are drawn where they are large."""
MAX_HELD_ACTIVATIONS = 1 << 26
SEED = 20_240
DENSITIES = (0.1, 0.3, 0.5, 0.7, 0.9)
SUMS_AT_ONCE = 4_096


def verify_thresholds(checks: list[Check]) -> None:
    """Push every attainable sum of every hidden neuron through the framework's own layers.

    Raises :class:`Invalid` ``bad-import`` at the first one that they answer otherwise than exact arithmetic does.
    """
    for check in checks:
        totals = np.arange(-check.fan_in, check.fan_in + 1, 2, dtype=np.int64)
        for start in range(0, len(totals), SUMS_AT_ONCE):
            column = totals[start : start + SUMS_AT_ONCE, None]
            oriented = np.where(check.flipped, -column, column)
            wanted = (oriented + check.fan_in) // 2 >= check.thresholds
            sums = np.repeat(column, len(check.thresholds), axis=1).astype(np.float32)
            differing = np.argwhere(check.signs_of(sums) != wanted)
            if len(differing):
                row, neuron = (int(index) for index in differing[0])
                reason = "the framework's rounding decides this sum otherwise than its own parameters"
                raise Invalid("bad-import", layer=check.name, neuron=neuron, sum=int(column[row, 0]), reason=reason)


def verify_answers(
    model: Model,
    thresholds: tuple[int, ...] | None,
    scores_of: ScoresOf,
    factory: EvaluatorFactory,
    *,
    labels_only: bool = False,
) -> None:
    """Compare labels and scores of the source and of our kernel on random images.

    scores_of: the source's answers to ``uint8[n, height, width]`` of grey values where there are ``thresholds``, else
    to ``uint8[n, height, width, planes]`` of 0 and 1.  labels_only: the source gives probabilities, not scores.
    Raises :class:`Invalid` ``bad-import``.
    """
    shape, rng = model.architecture, np.random.default_rng(SEED)
    count = max(MIN_VERIFIED_IMAGES, min(VERIFIED_IMAGES, MAX_VERIFIED_BITS // shape.input_bits))
    if thresholds is None:
        density = np.resize(DENSITIES, count)[:, None, None, None]
        images = (rng.random((count, shape.height, shape.width, shape.planes)) < density).astype(np.uint8)
        packed = np.packbits(images.reshape(count, -1), axis=1, bitorder="little")
    else:
        images = rng.integers(0, 256, (count, shape.height, shape.width)).astype(np.uint8)
        packed = pack_pixels(images, bytes(thresholds))
    labels = np.zeros(count, np.uint8)
    samples = Samples(shape.height, shape.width, shape.planes, shape.classes, packed, labels)
    ours = factory(samples).logits(model, 0, count)
    # A framework holds a layer's activations of all images at once, as floats.
    largest = max(place.positions * place.out_channels for place in shape.geometry)
    step = max(1, min(count, MAX_HELD_ACTIVATIONS // largest))
    theirs = np.concatenate([scores_of(images[start : start + step]) for start in range(0, count, step)])
    if theirs.shape != ours.shape:
        raise Invalid("bad-import", reason="the source's output is not one score a class", shape=theirs.shape)
    is_equal = predict(ours) == np.argmax(theirs, axis=1)
    if not labels_only:
        is_equal &= (ours == theirs).all(axis=1)
    if not is_equal.all():
        wrong = int(np.count_nonzero(~is_equal))
        raise Invalid("bad-import", reason="the source answers otherwise", images=wrong, of=count)


def papers_of(model: Model, thresholds: tuple[int, ...] | None, text: str | bytes | None) -> Provenance:
    """Return the provenance that the source carries where it is this very model's, else what is known now.

    ``thresholds``, where the source has them, are what it was checked with and go before what it says of itself.
    """
    known = describe_unknown(model)
    with suppress(Invalid):
        carried = provenance_from_json(text or "")
        carried.validate_describes(model)
        known = carried
    return replace(known, thresholds=thresholds) if thresholds else known
