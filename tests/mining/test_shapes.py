"""New families never run out of shapes, and every shape is one that consensus would take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import made_up_family, make_params, make_spec, tiny_dataset

from bnnchain.bnn.zoo import ZOO
from bnnchain.consensus.learning import validate_size
from bnnchain.consensus.params import Params, preset
from bnnchain.consensus.state import genesis_state
from bnnchain.mining.shapes import MAX_RELATIVES, default_shape, new_shape
from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.model import Architecture, Conv3x3, Dense

MANIFEST = tiny_dataset().manifest
ONLY_OUTPUT = Architecture(6, 6, 1, (Dense(4),))
HIDDEN = Architecture(6, 6, 1, (Conv3x3(3, pool=True), Dense(5), Dense(4)))
WIDTHS = [(3, 5), (4, 5), (3, 6), (5, 5), (4, 6), (3, 7), (6, 5)]


def grow(count: int, params: Params, preferred: Architecture | None) -> list[Architecture]:
    """Return the shapes of ``count`` families, each founded above the last."""
    state = genesis_state(make_spec())
    for number in range(count):
        shape = new_shape(state, MANIFEST, params, preferred)
        family = replace(made_up_family(state, number), architecture=shape)
        state = replace(state, families=(*state.families, family))
    return [family.architecture for family in state.families]


@pytest.mark.parametrize("preferred", [None, HIDDEN, ONLY_OUTPUT])
def test_shapes_keep_coming_and_fit(preferred: Architecture | None) -> None:
    params = make_params()
    shapes = grow(200, params, preferred)
    assert shapes[0] == (preferred or default_shape(MANIFEST))
    assert len(set(shapes)) == 200
    for shape in shapes:
        assert (shape.height, shape.width, shape.planes, shape.classes) == (6, 6, 1, 4)
        validate_size(shape, MANIFEST.pool_size, params)


def test_every_hidden_layer_is_widened_and_little_at_first() -> None:
    wider = [replace(HIDDEN, layers=(Conv3x3(filters, pool=True), Dense(units), Dense(4))) for filters, units in WIDTHS]
    assert grow(len(WIDTHS), make_params(), HIDDEN) == wider


def test_a_layer_at_the_bound_leaves_the_others() -> None:
    # Another unit of the dense layer costs 3 * 2 * 2 + 4 weights, another filter 9 and more.
    params = make_params(max_connection_count=HIDDEN.weight_count + 16)
    assert [shape.weight_count for shape in grow(2, params, HIDDEN)] == [HIDDEN.weight_count, HIDDEN.weight_count + 16]
    with pytest.raises(Unavailable, match="no new shape"):
        grow(3, params, HIDDEN)


def test_a_preferred_shape_of_another_data_set_is_not_used() -> None:
    assert grow(1, make_params(), ZOO["cnn-4k"]) == [default_shape(MANIFEST)]


def test_mnist_on_main_has_room_for_every_relative_that_is_looked_at() -> None:
    shape, hidden = ZOO["cnn-4k"], len(ZOO["cnn-4k"].layers) - 1
    # All ways to share out up to this many more filters over three layers are more than MAX_RELATIVES.
    added = 49
    assert hidden == 3
    assert (added + 1) * (added + 2) * (added + 3) // 6 > MAX_RELATIVES
    for index, layer in enumerate(shape.layers[:-1]):
        assert isinstance(layer, Conv3x3)
        wide = replace(layer, filters=layer.filters + added)
        layers = (*shape.layers[:index], wide, *shape.layers[index + 1 :])
        validate_size(replace(shape, layers=layers), 60_000, preset("main"))
