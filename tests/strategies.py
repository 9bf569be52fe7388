"""Hypothesis strategies: architectures and models of all the shapes that the types allow, kept small."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from bnnchain_kernels.model import MAX_ABS_BIAS, Architecture, Conv3x3, Dense, Layer, Model, build_model


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    height, width, planes = draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(st.integers(1, 5))
    layers: list[Layer] = []
    rows, columns = height, width
    for _ in range(draw(st.integers(0, 3))):
        if rows < 3 or columns < 3:
            break
        pool = draw(st.booleans()) and rows >= 4 and columns >= 4
        layers.append(Conv3x3(draw(st.integers(1, 9)), pool=pool))
        rows, columns = ((rows - 2) // (1 + pool), (columns - 2) // (1 + pool))
    layers += [Dense(draw(st.integers(1, 20))) for _ in range(draw(st.integers(0, 2)))]
    return Architecture(height, width, planes, (*layers, Dense(draw(st.integers(2, 12)))))


@st.composite
def models(draw: st.DrawFn, architecture: Architecture | None = None) -> Model:
    shape = architecture or draw(architectures())
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = [rng.random((layer.out_channels, layer.fan_in)) < 0.5 for layer in shape.geometry]
    thresholds = [rng.integers(0, layer.fan_in + 2, layer.out_channels) for layer in shape.geometry[:-1]]
    biases = rng.integers(-MAX_ABS_BIAS, MAX_ABS_BIAS + 1, shape.classes)
    return build_model(shape, weights, thresholds, biases * rng.integers(0, 2) * rng.integers(0, 2, shape.classes))
