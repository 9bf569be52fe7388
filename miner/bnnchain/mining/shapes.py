"""Shapes for new families: a preferred one first, then wider relatives that are not on the chain yet (paper 4.3)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bnnchain.bnn.zoo import ZOO
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.learning import validate_size
from bnnchain_kernels.model import KERNEL_SIDE, POOL_SIDE, Architecture, Conv3x3, Dense, Layer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnchain.consensus.params import Params
    from bnnchain.consensus.state import ChainState
    from bnnchain.datasets.manifest import Manifest

MAX_WIDENINGS = 64


def new_shape(
    state: ChainState, manifest: Manifest, params: Params, preferred: Architecture | None = None
) -> Architecture:
    """Return a shape that fits the data set, keeps the chain's bounds, and no family has yet.

    Raises :class:`Unavailable` where none of the first ``MAX_WIDENINGS`` relatives will do.
    """
    taken = {family.architecture for family in state.families}
    for shape in _relatives(preferred or default_shape(manifest)):
        if shape in taken:
            continue
        try:
            validate_size(shape, manifest.pool_size, params)
        except Invalid:
            break
        return shape
    raise Unavailable(f"no new shape within the chain's bounds for data set {manifest.name}")


def default_shape(manifest: Manifest) -> Architecture:
    """Return the first shape of the zoo with the data set's input and classes, or a small one made for them."""
    wanted = (manifest.height, manifest.width, manifest.planes, manifest.classes)
    for shape in ZOO.values():
        if (shape.height, shape.width, shape.planes, shape.classes) == wanted:
            return shape
    layers: list[Layer] = []
    height, width = manifest.height, manifest.width
    for filters in (8, 16, 24):
        height, width = (height - KERNEL_SIDE + 1) // POOL_SIDE, (width - KERNEL_SIDE + 1) // POOL_SIDE
        if min(height, width) < 1:
            break
        layers.append(Conv3x3(filters, pool=True))
    return Architecture(manifest.height, manifest.width, manifest.planes, (*layers, Dense(manifest.classes)))


def _relatives(shape: Architecture) -> Iterator[Architecture]:
    """Yield the shape itself, then ever wider ones: one more filter or unit in one hidden layer at a time."""
    yield shape
    hidden = len(shape.layers) - 1
    for step in range(MAX_WIDENINGS if hidden else 0):
        index = step % hidden
        layer = shape.layers[index]
        wider: Layer = (
            replace(layer, filters=layer.filters + 1)
            if isinstance(layer, Conv3x3)
            else replace(layer, units=layer.units + 1)
        )
        shape = Architecture(
            shape.height, shape.width, shape.planes, (*shape.layers[:index], wider, *shape.layers[index + 1 :])
        )
        yield shape
