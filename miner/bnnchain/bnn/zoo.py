"""Named architectures: the paper's three sizes for 28x28 images, and a small one for the 8x8 digits."""

from __future__ import annotations

from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import Architecture, Conv3x3, Dense

ZOO: dict[str, Architecture] = {
    # 4,308 weights; 4,440 parameters as Keras counts them, batch normalisation included (paper table 1).
    "cnn-4k": Architecture(
        28, 28, 1, (Conv3x3(4, pool=True), Conv3x3(16, pool=True), Conv3x3(24, pool=True), Dense(10))
    ),
    # 93.6 K Keras parameters: the network of the Larq tutorial.
    "cnn-94k": Architecture(
        28, 28, 1, (Conv3x3(32, pool=True), Conv3x3(64, pool=True), Conv3x3(64), Dense(64), Dense(10))
    ),
    # 1.17 M Keras parameters.
    "cnn-1m": Architecture(
        28, 28, 1, (Conv3x3(32, pool=True), Conv3x3(64, pool=True), Conv3x3(1000), Dense(64), Dense(10))
    ),
    # 4,272 weights on 8x8 images of four thermometer planes.
    "cnn-digits": Architecture(8, 8, 4, (Conv3x3(16, pool=True), Conv3x3(24), Dense(10))),
}


def architecture(name: str) -> Architecture:
    """Return the named architecture; raises :class:`Invalid` ``unknown-architecture``."""
    try:
        return ZOO[name]
    except KeyError:
        raise Invalid("unknown-architecture", name=name, known=", ".join(ZOO)) from None
