from __future__ import annotations

import numpy as np
import pytest
from random_networks import random_architecture

from bnnchain.bnn.notation import format_architecture, parse_architecture
from bnnchain.bnn.zoo import ZOO
from bnnchain_kernels.errors import Invalid


def test_a_shape_in_writing() -> None:
    text = "28x28x1-conv4p-conv16p-conv24p-dense10"
    assert format_architecture(ZOO["cnn-4k"]) == text
    assert parse_architecture(text) == ZOO["cnn-4k"]


@pytest.mark.parametrize("seed", range(60))
def test_every_shape_is_read_back(seed: int) -> None:
    shape = random_architecture(np.random.default_rng(seed))
    assert parse_architecture(format_architecture(shape)) == shape


@pytest.mark.parametrize(
    "text",
    [
        "",
        "28x28-dense10",
        "28x28x1",
        "28x28x1-",
        "28x28x1-dense10-",
        "28x28x1-conv4",
        "28x28x1-dense10p",
        "28x28x1-conv-dense10",
        "28x28x1-conv0-dense10",
        "28x28x1-conv4097-dense10",
        "28x28x1-conv999999-dense10",
        "28x28x1-conv+4-dense10",
        "28x28x1-conv٤-dense10",
        "28x28x1-Conv4-dense10",
        " 28x28x1-dense10",
        "28x28x1-dense10\n",
        "300x28x1-dense10",
        "28x28x1-dense64-conv4-dense10",
        "28x28x1" + "-dense9" * 17,
        "28x28x1" + "-dense9" * 10_000,
    ],
)
def test_anything_else_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_architecture(text)
    assert caught.value.code == "bad-architecture"
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
