"""The one interface of every backend: exact counts and logits of a model on a fixed set of images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from bnnchain_kernels.model import Architecture, Int32Array, Model, UInt8Array

BLOCK_IMAGES = 512
"""Images per block: :meth:`Evaluator.correct` counts per block and racing compares block by block."""
MAX_IMAGES = 1 << 24


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Labelled binary images, packed one row an image.

    images: ``uint8[n, ceil(height*width*planes/8)]``; bit i of a row, LSB first, is input i in (y, x, plane) order;
        unused high bits of the last byte are zero.
    labels: ``uint8[n]``, each below ``classes``.

    Raises :class:`Invalid` ``bad-samples`` where an array breaks these rules.
    """

    height: int
    width: int
    planes: int
    classes: int
    images: UInt8Array
    labels: UInt8Array

    def __post_init__(self) -> None:
        bits = self.height * self.width * self.planes
        count = len(self.labels)
        if count > MAX_IMAGES or self.images.dtype != np.uint8 or self.images.shape != (count, -(-bits // 8)):
            raise Invalid("bad-samples", reason="image array", shape=self.images.shape)
        if self.labels.dtype != np.uint8 or self.labels.ndim != 1 or np.any(self.labels >= self.classes):
            raise Invalid("bad-samples", reason="labels")
        if bits % 8 and np.any(self.images[:, -1] >> np.uint8(bits % 8)):
            raise Invalid("bad-samples", reason="unused image bits are not zero")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Int32Array) -> Samples:
        """Return the samples at ``indices`` (``int32[m]``, repeats allowed), in that order."""
        return Samples(self.height, self.width, self.planes, self.classes, self.images[indices], self.labels[indices])

    def unpack(self, start: int, stop: int) -> UInt8Array:
        """Return images start..stop as 0/1 ``uint8[stop-start, height, width, planes]``."""
        bits = np.unpackbits(
            self.images[start:stop], axis=1, count=self.height * self.width * self.planes, bitorder="little"
        )
        images: UInt8Array = bits.astype(np.uint8, copy=False).reshape(-1, self.height, self.width, self.planes)
        return images

    def validate_fits(self, architecture: Architecture) -> None:
        """Raise :class:`Invalid` ``bad-architecture`` where the network's input or classes differ from these."""
        wanted = (self.height, self.width, self.planes, self.classes)
        given = (architecture.height, architecture.width, architecture.planes, architecture.classes)
        if wanted != given:
            raise Invalid("bad-architecture", reason="input or classes differ from the data set", wanted=wanted)


class Evaluator(Protocol):
    """Evaluates models on the samples it was built from; packs them once and keeps private caches.

    Safe to call from several threads at once.  Every implementation equals ``reference.py`` bit for bit.
    """

    backend: str
    """The name of the backend: ``reference``, ``numba``, ``c``, ``fpga`` or ``fpga-sim``."""

    def correct(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return ``int32[ceil((stop-start)/512)]``: the exact count of right labels per 512-image block.

        ``start`` and ``stop`` count images; both are multiples of 512, or ``stop`` is the number of samples.
        """
        ...

    def logits(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return ``int32[stop-start, classes]``, the logits of images ``start`` to ``stop`` (any bounds)."""
        ...


EvaluatorFactory: TypeAlias = Callable[[Samples], Evaluator]


def validate_range(samples: Samples, start: int, stop: int, *, blocks: bool) -> None:
    """Raise ``ValueError`` where a range is not one :class:`Evaluator` allows (the caller's bug, not a peer's)."""
    if not 0 <= start <= stop <= len(samples):
        message = f"range {start}..{stop} outside 0..{len(samples)}"
        raise ValueError(message)
    if blocks and (start % BLOCK_IMAGES or (stop % BLOCK_IMAGES and stop != len(samples))):
        message = f"range {start}..{stop} is not made of whole {BLOCK_IMAGES}-image blocks"
        raise ValueError(message)


def count_correct(evaluator: Evaluator, model: Model, size: int) -> int:
    """Return the exact number of the first ``size`` samples that the model labels right."""
    return int(evaluator.correct(model, 0, size).sum(dtype=np.int64))


def predict(logits: Int32Array) -> UInt8Array:
    """Return ``uint8[n]``, the class of the largest logit; ties go to the lowest class (PROTOCOL.md, "Model")."""
    labels: UInt8Array = np.argmax(logits, axis=1).astype(np.uint8)
    return labels
