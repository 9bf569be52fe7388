"""A chain model put together from the layers of another tool, one operation after the other.

Each front end (Larq, ONNX) calls what it meets in order; whatever a chain model cannot be is refused with the layer's
name and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from bnnchain.bnn.encoding import MAX_WIRE_BYTES, wire_size_bytes
from bnnchain.exchange.folding import Affine
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import (
    KERNEL_SIDE,
    MAX_ABS_BIAS,
    MAX_CHANNELS,
    MAX_PLANES,
    MAX_SIDE,
    POOL_SIDE,
    Architecture,
    BoolArray,
    Conv3x3,
    Dense,
    Layer,
    build_model,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from bnnchain_kernels.model import Int32Array, Model

    FloatArray = npt.NDArray[np.floating]
    SignsOf = Callable[[npt.NDArray[np.float32]], BoolArray]

MAX_IMAGE_MACS = 1 << 30
"""Work of one image beyond which a network is not checked here; the largest of the zoo takes 1 % of it."""


@dataclass(slots=True, eq=False)
class Neurons:
    """A layer under way: what it multiplies and what happens to its sums."""

    name: str
    weights: BoolArray
    """``bool[out, K]``, inputs in canonical order; True is +1."""
    is_conv: bool
    values: list[Affine]
    """One a neuron."""
    pool: bool = False
    pooled_slopes: list[bool] = field(default_factory=list)
    """Which values rose with the sums when they were pooled."""

    @property
    def layer(self) -> Layer:
        """The layer as an architecture names it."""
        return Conv3x3(len(self.weights), pool=self.pool) if self.is_conv else Dense(len(self.weights))


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """The framework's own answer to a hidden layer's sums, beside the thresholds that must give the same."""

    name: str
    fan_in: int
    thresholds: Int32Array
    flipped: BoolArray
    signs_of: SignsOf
    """From sums ``float32[n, out]`` to answers ``bool[n, out]``."""


class Assembly:
    """Collects layers; ``finish`` returns the model.  Raises :class:`Invalid` ``bad-import`` naming the layer."""

    def __init__(self) -> None:
        self.input: tuple[int, int, int] | None = None
        self.thresholds: tuple[int, ...] | None = None
        self._done: list[tuple[Neurons, list[int]]] = []
        self._open: Neurons | None = None
        self._checks: list[Check] = []
        self._is_binary = False
        self._size: tuple[int, int, int] = (0, 0, 0)

    def start(self, height: int, width: int, planes: int) -> None:
        """Set the size of the input; its values are not known to be bits yet."""
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and 1 <= planes <= MAX_PLANES):
            size = f"{height}x{width}x{planes}"
            raise Invalid("bad-import", reason=f"input of {size}: sides to {MAX_SIDE}, planes to {MAX_PLANES}")
        self.input = self._size = (height, width, planes)

    def state_binary(self, thresholds: tuple[int, ...] | None = None) -> None:
        """Record that the input is -1 and +1, made of grey values by ``thresholds`` where given."""
        self._is_binary, self.thresholds = True, thresholds

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width and channels of the value at this place."""
        return self._size

    @property
    def is_summing(self) -> bool:
        """Whether the value at this place is a layer's sums, not yet signs."""
        return self._open is not None

    @property
    def has_layers(self) -> bool:
        """Whether a layer has been met."""
        return self._open is not None or bool(self._done)

    def conv(self, name: str, kernel: FloatArray) -> None:
        """Take a valid 3x3 convolution, ``kernel[3, 3, in, out]`` of -1 and +1."""
        height, width, channels = self._size
        if kernel.shape[:3] != (KERNEL_SIDE, KERNEL_SIDE, channels):
            refuse(name, f"the kernel is {'x'.join(map(str, kernel.shape[:3]))}, not 3x3x{channels}")
        if height < KERNEL_SIDE or width < KERNEL_SIDE:
            refuse(name, f"no room for a 3x3 kernel in {height}x{width}")
        self._begin(name, kernel.reshape(-1, kernel.shape[-1]), is_conv=True)
        self._size = (height - KERNEL_SIDE + 1, width - KERNEL_SIDE + 1, kernel.shape[-1])

    def dense(self, name: str, kernel: FloatArray) -> None:
        """Take a dense layer, ``kernel[in, out]`` of -1 and +1, inputs in (y, x, channel) order."""
        fan_in = int(np.prod(self._size))
        if kernel.shape[0] != fan_in:
            refuse(name, f"{kernel.shape[0]} inputs, the layer before gives {fan_in}")
        self._begin(name, kernel, is_conv=False)
        self._size = (1, 1, kernel.shape[1])

    def pool(self, name: str) -> None:
        """Take a 2x2 max pool with stride 2, of sums or of signs."""
        neurons = self._open or (self._done[-1][0] if self._done else None)
        if neurons is None or not neurons.is_conv or neurons.pool:
            refuse(name, "a pool that does not follow one convolution")
        height, width, channels = self._size
        neurons.pool = True
        if self._open is not None:
            neurons.pooled_slopes = [value.slope > 0 for value in neurons.values]
        self._size = (height // POOL_SIDE, width // POOL_SIDE, channels)

    def plus(self, name: str, numbers: FloatArray) -> None:
        """Add a number to all sums, or one to each neuron's."""
        self._change(name, numbers, Affine.plus)

    def times(self, name: str, numbers: FloatArray) -> None:
        """Multiply all sums by a number, or each neuron's by its own."""
        self._change(name, numbers, Affine.times)

    def normalise(
        self,
        name: str,
        *,
        gamma: FloatArray,
        beta: FloatArray,
        mean: FloatArray,
        variance: FloatArray,
        epsilon: float,
    ) -> None:
        """Take a batch normalisation with its moving statistics."""
        neurons = self._summing(name)
        rows = [np.broadcast_to(each, len(neurons.values)).tolist() for each in (gamma, beta, mean, variance)]
        try:
            neurons.values = [
                value.normalised(*parameters, epsilon) for value, *parameters in zip(neurons.values, *rows, strict=True)
            ]
        except (ValueError, OverflowError):
            refuse(name, "a second normalisation, a variance that is not positive, or a number that is not finite")

    def sign(self, name: str, signs_of: SignsOf, *, is_strict: bool = False, zero_is_bit: bool = True) -> None:
        """Turn sums into signs.

        signs_of: the framework's own way from sums to signs.  is_strict: zero is -1.  zero_is_bit: whether the sign of
        zero is -1 or +1 at all; where it is neither, no attainable sum may reach zero.
        """
        if self._open is None:
            if not self.has_layers:
                self._is_binary = True
            return  # the sign of signs changes nothing
        neurons, fan_in = self._open, self._open.weights.shape[1]
        limits, flips = [], []
        for index, value in enumerate(neurons.values):
            if not zero_is_bit and value.has_zero(fan_in):
                refuse(name, f"neuron {index} can reach zero, whose sign is neither -1 nor +1")
            limit, is_flipped = value.threshold(fan_in, is_strict=is_strict)
            if neurons.pooled_slopes and value.slope and (value.slope > 0) != neurons.pooled_slopes[index]:
                refuse(name, f"neuron {index} is scaled by a negative number after its pool")
            limits.append(limit)
            flips.append(is_flipped)
        flipped = np.array(flips, np.bool_)
        neurons.weights = neurons.weights ^ flipped[:, None]
        self._checks.append(Check(neurons.name, fan_in, np.array(limits, np.int32), flipped, signs_of))
        self._done.append((neurons, limits))
        self._open = None

    def finish(self) -> tuple[Model, list[Check]]:
        """Return the model, and the checks that its thresholds still have to pass."""
        last = self._open
        if last is None or self.input is None:
            raise Invalid("bad-import", reason="it does not end with a layer's sums as scores")
        for index, value in enumerate(last.values):
            if value.slope != 1 or value.offset or value.variance != 1 or value.shift.denominator != 1:
                refuse(last.name, f"score {index} is scaled or normalised: not the sum plus an integer")
            if abs(value.shift) > MAX_ABS_BIAS:
                refuse(last.name, f"bias {index} exceeds {MAX_ABS_BIAS}")
        architecture = Architecture(*self.input, (*(each.layer for each, _ in self._done), last.layer))
        if architecture.mac_count > MAX_IMAGE_MACS:
            raise Invalid("bad-import", reason="too much work", macs=architecture.mac_count, limit=MAX_IMAGE_MACS)
        size_bytes = wire_size_bytes(architecture, has_biases=any(value.shift for value in last.values))
        if size_bytes > MAX_WIRE_BYTES:
            raise Invalid("bad-import", reason="too large for a block", size_bytes=size_bytes, limit=MAX_WIRE_BYTES)
        weights = [*(each.weights for each, _ in self._done), last.weights]
        biases = [int(value.shift) for value in last.values]
        return build_model(architecture, weights, [limits for _, limits in self._done], biases), self._checks

    def _begin(self, name: str, kernel: FloatArray, *, is_conv: bool) -> None:
        if self._open is not None:
            refuse(self._open.name, f"its sums reach {name} without a sign: activations are not binary")
        if not self._is_binary:
            refuse(name, "its input is not binary; --binary-input states that it is fed -1 and +1 alone")
        if not 1 <= kernel.shape[1] <= MAX_CHANNELS:
            refuse(name, f"more than {MAX_CHANNELS} neurons, or none")
        if not np.isin(kernel, (-1.0, 1.0)).all():
            refuse(name, "weights are not -1 and +1 (scaled, or not quantised)")
        weights = np.ascontiguousarray(kernel.T > 0)
        self._open = Neurons(name, weights, is_conv, [Affine()] * len(weights))

    def _summing(self, name: str) -> Neurons:
        if self._open is None:
            refuse(name, "works on signs or on the input, where a chain model has nothing")
        return self._open

    def _change(self, name: str, numbers: FloatArray, how: Callable[[Affine, float], Affine]) -> None:
        neurons = self._summing(name)
        every = np.asarray(numbers, np.float64).ravel()
        if len(every) not in (1, len(neurons.values)) or not np.isfinite(every).all():
            refuse(name, f"neither one finite number nor one for each of {len(neurons.values)} neurons")
        repeated = np.broadcast_to(every, len(neurons.values)).tolist()
        neurons.values = [how(value, number) for value, number in zip(neurons.values, repeated, strict=True)]


def refuse(layer: str, reason: str) -> NoReturn:
    """Raise :class:`Invalid` ``bad-import`` naming a layer and why no chain model can have it."""
    raise Invalid("bad-import", layer=ascii(layer[:80])[1:-1], reason=reason)
