"""Crossover and mutation over architectures within a chain's bounds (paper 4.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnnchain.consensus.params import BP
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import MAX_CHANNELS, Architecture, Conv3x3, Dense, Layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

MAX_HIDDEN_LAYERS = 8
MAX_START_CONVOLUTIONS = 3
START_POOL_SHARE = 2 / 3
START_DENSE_SHARE = 1 / 4
"""Of first shapes: convolutions mostly pooled and hidden dense layers rare, as small networks that learn are."""
MAX_TRIES = 64
"""Draws of a child before an operator gives up: most layers that do not fit are mended, few are thrown away."""
BISECTIONS = 24
MIN_SCALE, MAX_SCALE = 2.0**-12, 2.0**6
MIN_START_FILL = 1 / 4
"""A first shape fills between this share of the bound and all of it."""
RESIZE_SHARE = 0.5
"""Of mutations; the others toggle a pool, change a kind, insert and remove, evenly."""


@dataclass(frozen=True, slots=True)
class ShapeSpace:
    """Which shapes a search may make: the data set's input and classes, within the chain's bounds.

    max_connection_count: weights (paper 4.2).  max_mac_count: multiply-accumulates of one image, the chain's
    ``max_gate_macs`` over its pool, or fewer.
    """

    height: int
    width: int
    planes: int
    classes: int
    max_connection_count: int
    max_mac_count: int

    def is_within(self, shape: Architecture) -> bool:
        """Tell whether a shape has the data set's input and classes, and keeps the bounds."""
        given = (shape.height, shape.width, shape.planes, shape.classes)
        if given != (self.height, self.width, self.planes, self.classes):
            return False
        return shape.weight_count <= self.max_connection_count and shape.mac_count <= self.max_mac_count

    def fit(self, hidden: Sequence[Layer]) -> Architecture | None:
        """Return the hidden layers, all narrowed alike until the bounds are kept; None where nothing helps."""
        if len(hidden) > MAX_HIDDEN_LAYERS:
            return None
        shape = self._try(hidden)
        if shape is not None and self.is_within(shape):
            return shape
        return self._scale(hidden, 1.0, self.max_connection_count)

    def draw(self, rng: np.random.Generator) -> Architecture:
        """Return a random shape; raises ``bad-shape-bounds`` where not even small ones keep the bounds."""
        for _ in range(MAX_TRIES):
            hidden: list[Layer] = [
                Conv3x3(_draw_width(rng), pool=rng.random() < START_POOL_SHARE)
                for _ in range(rng.integers(0, MAX_START_CONVOLUTIONS + 1))
            ]
            if rng.random() < START_DENSE_SHARE:
                hidden.append(Dense(_draw_width(rng)))
            fill = MIN_START_FILL ** rng.random()
            shape = self._scale(hidden, MAX_SCALE, int(self.max_connection_count * fill))
            if shape is not None:
                return shape
        raise Invalid("bad-shape-bounds", weights=self.max_connection_count, macs=self.max_mac_count)

    def cross(self, first: Architecture, second: Architecture, rng: np.random.Generator) -> Architecture | None:
        """Return the first layers of one shape and the last of another; None where no cut fits."""
        for _ in range(MAX_TRIES):
            heads, tails = first.layers[:-1], second.layers[:-1]
            hidden = heads[: rng.integers(0, len(heads) + 1)] + tails[rng.integers(0, len(tails) + 1) :]
            shape = self.fit(hidden)
            if shape is not None:
                return shape
        return None

    def mutate(self, shape: Architecture, mutation_bp: int, rng: np.random.Generator) -> Architecture | None:
        """Return the shape with at least one change, and about ``mutation_bp`` of its layers changed."""
        for _ in range(MAX_TRIES):
            hidden = list(shape.layers[:-1])
            changes = max(1, int(rng.binomial(len(hidden), mutation_bp / BP)))
            for _change in range(changes):
                hidden = _change_layer(hidden, rng)
            mutant = self.fit(hidden)
            if mutant is not None and mutant != shape:
                return mutant
        return None

    def _scale(self, hidden: Sequence[Layer], most: float, max_weights: int) -> Architecture | None:
        # The widest multiple of all layers that keeps the bounds; widths grow with the scale, so bisection finds it.
        low, high, best = MIN_SCALE, most, None
        for _ in range(BISECTIONS):
            middle = (low * high) ** 0.5
            shape = self._try([_with_width(layer, round(_width(layer) * middle)) for layer in hidden])
            if shape is not None and shape.weight_count <= max_weights and self.is_within(shape):
                low, best = middle, shape
            else:
                high = middle
        return best

    def _try(self, hidden: Sequence[Layer]) -> Architecture | None:
        try:
            return Architecture(self.height, self.width, self.planes, (*hidden, Dense(self.classes)))
        except Invalid:
            return None


def _change_layer(hidden: list[Layer], rng: np.random.Generator) -> list[Layer]:
    if not hidden:
        return [_new_layer(0, hidden, rng)]
    index = int(rng.integers(0, len(hidden)))
    layer = hidden[index]
    if rng.random() < RESIZE_SHARE:
        width = _width(layer)
        resized = round(width * 2.0 ** rng.uniform(-1, 1))
        step = 1 if rng.random() < 1 / 2 else -1
        return [
            *hidden[:index],
            _with_width(layer, resized if resized != width else width + step),
            *hidden[index + 1 :],
        ]
    kind = int(rng.integers(0, 4))
    if kind == 0 and isinstance(layer, Conv3x3):
        return [*hidden[:index], replace(layer, pool=not layer.pool), *hidden[index + 1 :]]
    if kind == 1:
        other: Layer = Dense(layer.filters) if isinstance(layer, Conv3x3) else Conv3x3(layer.units)
        return [*hidden[:index], other, *hidden[index + 1 :]]
    if kind == 2:  # noqa: PLR2004  (the third of four kinds)
        return [*hidden[:index], *hidden[index + 1 :]]
    place = int(rng.integers(0, len(hidden) + 1))
    return [*hidden[:place], _new_layer(place, hidden, rng), *hidden[place:]]


def _new_layer(place: int, hidden: Sequence[Layer], rng: np.random.Generator) -> Layer:
    # As wide as a neighbour, so that an insertion alone neither starves nor bloats the network.
    width = _width(hidden[min(place, len(hidden) - 1)]) if hidden else _draw_width(rng)
    return Conv3x3(width, pool=bool(rng.integers(0, 2))) if rng.random() < 2 / 3 else Dense(width)


def _draw_width(rng: np.random.Generator) -> int:
    return int(rng.integers(2, 33))


def _width(layer: Layer) -> int:
    return layer.filters if isinstance(layer, Conv3x3) else layer.units


def _with_width(layer: Layer, width: int) -> Layer:
    width = min(max(1, width), MAX_CHANNELS)
    return replace(layer, filters=width) if isinstance(layer, Conv3x3) else replace(layer, units=width)
