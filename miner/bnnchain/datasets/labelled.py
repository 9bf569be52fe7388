"""Labelled grey images as they come from a user's files, before anything is chosen or packed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import MAX_IMAGES
from bnnchain_kernels.model import MAX_CLASSES, MAX_SIDE, MIN_CLASSES

if TYPE_CHECKING:
    from bnnchain_kernels.model import UInt8Array

MAX_PIXEL_BYTES = 1 << 28
"""Of one source: two payloads of 16 MiB, pool and hidden, at one bit a pixel are never more."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledImages:
    """Grey images with their classes.

    pixels: ``uint8[n, height, width]``.  labels: ``uint8[n]``, indices into ``class_names``.
    names: one a sample, for messages to people, or empty: samples are named by their number.
    skipped: what the source held beside samples, each with the reason, for people.
    Raises ``bad-source`` where the arrays do not fit each other or pass a limit.
    """

    pixels: UInt8Array
    labels: UInt8Array
    class_names: tuple[str, ...]
    names: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.dtype != np.uint8 or self.labels.dtype != np.uint8:  # noqa: PLR2004
            raise Invalid("bad-source", reason="images are not grey bytes", shape=self.pixels.shape)
        count, height, width = self.pixels.shape
        if self.labels.shape != (count,) or len(self.names) not in (0, count):
            raise Invalid("bad-source", reason=f"{len(self.labels)} labels for {count} images")
        if not 1 <= count <= MAX_IMAGES or self.pixels.nbytes > MAX_PIXEL_BYTES:
            raise Invalid("bad-source", reason=f"{count} images of {height}x{width}", limit_bytes=MAX_PIXEL_BYTES)
        if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
            raise Invalid("bad-source", reason=f"image size {height}x{width}, sides are 1 to {MAX_SIDE}")
        if not MIN_CLASSES <= len(self.class_names) <= MAX_CLASSES:
            raise Invalid("bad-source", reason=f"{len(self.class_names)} classes, {MIN_CLASSES} to {MAX_CLASSES} work")
        if int(self.labels.max()) >= len(self.class_names):
            raise Invalid("bad-source", reason=f"label {self.labels.max()} of {len(self.class_names)} classes")

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """Return what to call a sample before people."""
        return self.names[index] if self.names else f"image {index}"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a user's files hold: all samples, or the pool's alone beside a held-out split of the source's own."""

    images: LabelledImages
    hidden: LabelledImages | None = None

    def __post_init__(self) -> None:
        if self.hidden is None:
            return
        if self.hidden.pixels.shape[1:] != self.images.pixels.shape[1:]:
            raise Invalid("bad-source", reason="the held-out images' size differs")
        if self.hidden.class_names != self.images.class_names:
            raise Invalid("bad-source", reason="the held-out images' classes differ")
