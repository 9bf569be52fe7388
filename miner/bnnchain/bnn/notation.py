"""Architectures as text for people and command lines: ``28x28x1-conv4p-conv16p-conv24p-dense10``.

Height x width x planes of the input, then the layers: ``convN`` is a 3x3 convolution with N filters, ``convNp`` one
with a 2x2 pool after it, ``denseN`` a fully connected layer.  Not part of any hash: canonical bytes are
:func:`bnnchain.bnn.encoding.encode_architecture`.
"""

from __future__ import annotations

import re

from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import MAX_LAYERS, Architecture, Conv3x3, Dense, Layer

MAX_NOTATION_CHARACTERS = 256

# At most five digits a number: the architecture's own limits are all below.
_INPUT = re.compile(r"([0-9]{1,5})x([0-9]{1,5})x([0-9]{1,5})")
_LAYER = re.compile(r"(conv|dense)([0-9]{1,5})(p?)")


def format_architecture(architecture: Architecture) -> str:
    """Return the notation of a shape; :func:`parse_architecture` reads it back."""
    layers = (
        f"conv{layer.filters}{'p' if layer.pool else ''}" if isinstance(layer, Conv3x3) else f"dense{layer.units}"
        for layer in architecture.layers
    )
    return "-".join([f"{architecture.height}x{architecture.width}x{architecture.planes}", *layers])


def parse_architecture(text: str) -> Architecture:
    """Return the shape of a notation; raises :class:`Invalid` ``bad-architecture``."""
    first, *rest = text[: MAX_NOTATION_CHARACTERS + 1].split("-")
    size = _INPUT.fullmatch(first)
    if len(text) > MAX_NOTATION_CHARACTERS or size is None or not 1 <= len(rest) <= MAX_LAYERS:
        raise Invalid("bad-architecture", reason="not like 28x28x1-conv4p-dense10", text=ascii(text[:64]))
    layers: list[Layer] = []
    for part in rest:
        match = _LAYER.fullmatch(part)
        if match is None or (match[1] == "dense" and match[3]):
            raise Invalid("bad-architecture", reason="not a layer like conv4, conv4p or dense10", text=ascii(part))
        count = int(match[2])
        layers.append(Conv3x3(count, pool=bool(match[3])) if match[1] == "conv" else Dense(count))
    return Architecture(int(size[1]), int(size[2]), int(size[3]), tuple(layers))
