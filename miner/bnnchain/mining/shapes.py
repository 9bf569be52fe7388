"""Shapes for new families: a preferred one first, then wider relatives that are not on the chain yet (paper 4.3)."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
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

MAX_RELATIVES = 20_000
"""Shapes looked at; MNIST's default has that many within the bounds of every preset, and a chain has fewer families."""
EXTRA_UNITS = 16
"""Of the dense layer that a shape without hidden layers is given, so that it can be widened at all."""


def new_shape(
    state: ChainState, manifest: Manifest, params: Params, preferred: Architecture | None = None
) -> Architecture:
    """Return a shape that fits the data set, keeps the chain's bounds, and no family has yet: the least widened one.

    preferred: where to start, if it fits the data set; None: :func:`default_shape`.
    Raises :class:`Unavailable` where none of the first ``MAX_RELATIVES`` relatives will do.
    """
    taken = {family.architecture for family in state.families}
    wanted = (manifest.height, manifest.width, manifest.planes, manifest.classes)
    if preferred is None or (preferred.height, preferred.width, preferred.planes, preferred.classes) != wanted:
        preferred = default_shape(manifest)
    for shape in islice(_relatives(preferred, params), MAX_RELATIVES):
        if shape in taken:
            continue
        try:
            validate_size(shape, manifest.pool_size, params)
        except Invalid:
            # Another layer may still be widened.
            continue
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


def _relatives(shape: Architecture, params: Params) -> Iterator[Architecture]:
    """Yield the shape, then ever wider ones: all ways to share out one more filter or unit, two more, three ..."""
    yield shape
    if len(shape.layers) == 1:
        shape = replace(shape, layers=(Dense(EXTRA_UNITS), *shape.layers))
        yield shape
    hidden = len(shape.layers) - 1
    # A filter or unit more is at least a weight more.
    for added in range(1, params.max_connection_count + 1):
        for shares in _shares(added, hidden):
            wider = [_widened(layer, share) for layer, share in zip(shape.layers, shares, strict=False)]
            yield replace(shape, layers=(*wider, shape.layers[-1]))


def _shares(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to share out ``total`` over ``parts``, in lexicographic order, the first part's most first."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total, -1, -1):
        for rest in _shares(total - first, parts - 1):
            yield (first, *rest)


def _widened(layer: Layer, added: int) -> Layer:
    if isinstance(layer, Conv3x3):
        return replace(layer, filters=layer.filters + added)
    return replace(layer, units=layer.units + added)
