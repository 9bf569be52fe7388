from __future__ import annotations

import pytest

from bnnchain.bnn.zoo import ZOO, architecture
from bnnchain_kernels.errors import Invalid

WEIGHTS = {"cnn-4k": 4_308, "cnn-94k": 93_088, "cnn-1m": 1_171_360, "cnn-digits": 4_272}


@pytest.mark.parametrize(("name", "weights"), WEIGHTS.items())
def test_weight_counts(name: str, weights: int) -> None:
    assert architecture(name).weight_count == weights


def test_the_zoo_is_what_these_tests_know() -> None:
    assert set(ZOO) == set(WEIGHTS)


def test_cnn_4k_has_the_4440_parameters_of_the_paper() -> None:
    """Keras counts the weights, and a mean, a variance and a beta for each of the 44 hidden channels."""
    shape = architecture("cnn-4k")
    assert shape.weight_count + 3 * sum(layer.out_channels for layer in shape.geometry[:-1]) == 4_440


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Invalid, match="cnn-4k") as caught:
        architecture("cnn-5k")
    assert caught.value.code == "unknown-architecture"
