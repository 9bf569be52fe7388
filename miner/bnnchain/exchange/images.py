"""Pictures as the bits that a network reads: grey values, size, polarity, thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.datasets.payload import pack_pixels
from bnnchain.exchange.extras import load_extra
from bnnchain.exchange.provenance import validate_thresholds
from bnnchain_kernels.errors import Invalid, Unavailable
from bnnchain_kernels.evaluator import Samples

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain_kernels.model import Architecture, UInt8Array

MAX_FILE_BYTES = 32 << 20
MAX_SIDE_PIXELS = 8_192
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF")
WHITE = 255


def read_grey(path: Path, height: int, width: int, *, invert: bool = False, resize: bool = False) -> UInt8Array:
    """Return a picture's grey values, ``uint8[height, width]``.

    Colours become grey by ITU-R 601 luma, transparency lies on white, 16-bit grey keeps its high byte.  A picture of
    another size is refused, or with ``resize`` scaled into the frame in its own proportions, centred, the rest filled
    with its corner's grey.  ``invert`` turns dark on light into light on dark, last.

    Raises :class:`Unavailable` without the extra ``images`` or the file, ``bad-image`` where it is no such picture.
    """
    picture = _open(path)
    if picture.size != (width, height):
        if not resize:
            size = f"{picture.width}x{picture.height}"
            raise Invalid("bad-image", file=path, reason=f"{size}, wanted {width}x{height}; --resize scales it")
        operations, resampling = load_extra("PIL.ImageOps", "images"), load_extra("PIL.Image", "images").Resampling
        picture = operations.pad(picture, (width, height), method=resampling.BOX, color=picture.getpixel((0, 0)))
    pixels: UInt8Array = np.asarray(picture, np.uint8)
    return WHITE - pixels if invert else pixels


def picture_size(path: Path) -> tuple[int, int]:
    """Return a picture's (height, width); raises as :func:`read_grey`."""
    picture = _open(path)
    return picture.height, picture.width


def samples_of(pictures: list[UInt8Array], architecture: Architecture, thresholds: tuple[int, ...]) -> Samples:
    """Return pictures as samples for an architecture; their labels are 0 and mean nothing."""
    validate_thresholds(thresholds, architecture)
    packed = pack_pixels(np.stack(pictures), bytes(thresholds))
    labels = np.zeros(len(pictures), np.uint8)
    return Samples(architecture.height, architecture.width, architecture.planes, architecture.classes, packed, labels)


def _open(path: Path) -> Any:  # noqa: ANN401  (a PIL.Image.Image)
    pil = load_extra("PIL.Image", "images")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise Invalid("bad-image", file=path, reason="file too large", limit_bytes=MAX_FILE_BYTES)
        with pil.open(path, formats=FORMATS) as picture:
            # The size stands in the header: a bomb is refused before anything is unpacked.
            if max(picture.size) > MAX_SIDE_PIXELS:
                raise Invalid("bad-image", file=path, reason="too many pixels", limit=MAX_SIDE_PIXELS)
            return _to_grey(pil, picture)
    except OSError as error:
        if error.errno is not None:
            raise Unavailable(f"cannot read {path}: {error.strerror}") from error
        raise Invalid("bad-image", file=path, reason=f"not a whole picture of {', '.join(FORMATS)}") from None
    except (ValueError, SyntaxError, EOFError, pil.DecompressionBombError, pil.DecompressionBombWarning) as error:
        raise Invalid("bad-image", file=path, reason=type(error).__name__) from None


def _to_grey(pil: Any, picture: Any) -> Any:  # noqa: ANN401
    if picture.mode.startswith("I"):
        return pil.fromarray((np.asarray(picture).astype(np.int64).clip(0, 65_535) >> 8).astype(np.uint8))
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = pil.new("RGBA", picture.size, "white")
        picture = pil.alpha_composite(white, picture)
    return picture.convert("L")
