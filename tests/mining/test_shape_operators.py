from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from bnnchain.bnn.zoo import ZOO
from bnnchain.mining.shape_operators import MAX_HIDDEN_LAYERS, ShapeSpace
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import Architecture, Conv3x3, Dense

SPACE = ShapeSpace(28, 28, 1, 10, ZOO["cnn-4k"].weight_count, ZOO["cnn-4k"].mac_count)
SPACES = [
    SPACE,
    ShapeSpace(8, 8, 4, 10, 4_272, 1 << 40),
    ShapeSpace(1, 5, 3, 2, 40, 100),
    ShapeSpace(256, 256, 64, 256, 1 << 30, 1 << 30),
    ShapeSpace(3, 3, 1, 7, 1_000, 1_000),
]


def check(space: ShapeSpace, shape: Architecture) -> None:
    assert (shape.height, shape.width, shape.planes, shape.classes) == (
        space.height,
        space.width,
        space.planes,
        space.classes,
    )
    assert shape.weight_count <= space.max_connection_count
    assert shape.mac_count <= space.max_mac_count
    assert len(shape.layers) <= MAX_HIDDEN_LAYERS + 1


@pytest.mark.parametrize("number", range(len(SPACES)))
@pytest.mark.parametrize("seed", range(5))
def test_every_shape_keeps_the_bounds(number: int, seed: int) -> None:
    space, rng = SPACES[number], np.random.default_rng(seed)
    shapes = [space.draw(rng) for _ in range(6)]
    for _ in range(30):
        for shape in shapes:
            check(space, shape)
        first, second = (shapes[index] for index in rng.integers(0, len(shapes), 2))
        child = space.cross(first, second, rng) or first
        shapes[rng.integers(0, len(shapes))] = space.mutate(child, 2_500, rng) or child


def test_the_same_seed_draws_the_same_shapes() -> None:
    def draw(seed: int) -> list[Architecture | None]:
        rng = np.random.default_rng(seed)
        first, second = SPACE.draw(rng), SPACE.draw(rng)
        return [first, second, SPACE.cross(first, second, rng), SPACE.mutate(first, 5_000, rng)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_a_mutation_always_changes_something_and_reaches_every_kind_of_change() -> None:
    rng, parent, seen = np.random.default_rng(0), ZOO["cnn-4k"], Counter[str]()
    wide = replace(SPACE, max_connection_count=1 << 16, max_mac_count=1 << 24)
    for _ in range(300):
        mutant = wide.mutate(parent, 0, rng)
        assert mutant is not None
        assert mutant != parent
        kinds = [type(layer) for layer in mutant.layers], [type(layer) for layer in parent.layers]
        pools = [[layer.pool for layer in each.layers if isinstance(layer, Conv3x3)] for each in (mutant, parent)]
        if len(mutant.layers) != len(parent.layers):
            seen["longer" if len(mutant.layers) > len(parent.layers) else "shorter"] += 1
        elif kinds[0] != kinds[1]:
            seen["kind"] += 1
        elif pools[0] != pools[1]:
            seen["pool"] += 1
        else:
            seen["size"] += 1
            changed = sum(a != b for a, b in zip(mutant.layers, parent.layers, strict=True))
            assert changed == 1
    assert set(seen) == {"longer", "shorter", "kind", "pool", "size"}
    assert min(seen.values()) >= 5
    assert seen["size"] > 100


def test_more_mutation_changes_more_layers() -> None:
    rng, parent = np.random.default_rng(0), ZOO["cnn-4k"]
    wide = replace(SPACE, max_connection_count=1 << 20, max_mac_count=1 << 30)

    def changed(mutation_bp: int) -> float:
        mutants = [wide.mutate(parent, mutation_bp, rng) for _ in range(200)]
        sizes = [each for each in mutants if each is not None and len(each.layers) == len(parent.layers)]
        return float(np.mean([sum(a != b for a, b in zip(each.layers, parent.layers, strict=True)) for each in sizes]))

    assert changed(0) < 1.2
    assert changed(10_000) > 1.5


def test_a_crossing_has_the_first_layers_of_one_and_the_last_of_the_other() -> None:
    rng = np.random.default_rng(3)
    space = replace(SPACE, max_connection_count=1 << 20, max_mac_count=1 << 30)
    first = Architecture(28, 28, 1, (Conv3x3(3), Conv3x3(5, pool=True), Dense(10)))
    second = Architecture(28, 28, 1, (Conv3x3(7, pool=True), Dense(9), Dense(10)))
    children = {space.cross(first, second, rng) for _ in range(200)}
    wanted = {
        (*heads, *tails, Dense(10))
        for heads in ((), (Conv3x3(3),), (Conv3x3(3), Conv3x3(5, pool=True)))
        for tails in ((), (Dense(9),), (Conv3x3(7, pool=True), Dense(9)))
    }
    assert {child.layers for child in children if child is not None} == wanted


def test_what_is_too_wide_is_narrowed_all_alike() -> None:
    shape = SPACE.fit((Conv3x3(64, pool=True), Conv3x3(128, pool=True)))
    assert shape is not None
    check(SPACE, shape)
    first, second = shape.geometry[0].out_channels, shape.geometry[1].out_channels
    assert first < second
    wider = Architecture(28, 28, 1, (Conv3x3(first + 1, pool=True), Conv3x3(second + 2, pool=True), Dense(10)))
    assert not SPACE.is_within(wider)


def test_what_cannot_be_mended_is_none() -> None:
    assert SPACE.fit((Dense(4), Conv3x3(4))) is None
    assert SPACE.fit((Conv3x3(4, pool=True),) * 4) is None
    assert SPACE.fit((Conv3x3(1),) * (MAX_HIDDEN_LAYERS + 1)) is None
    assert replace(SPACE, max_connection_count=9).fit((Conv3x3(4),)) is None


def test_bounds_that_no_shape_keeps_are_refused() -> None:
    with pytest.raises(Invalid) as caught:
        replace(SPACE, max_connection_count=5).draw(np.random.default_rng(0))
    assert caught.value.code == "bad-shape-bounds"
