"""Compiles a model into the packet that loads it: descriptors, weight words, start values, biases, CRC.

Pure: no device, no files.  What does not fit is refused with the reason and the numbers (:class:`DoesNotFit`).
Formats: fpga/README.md, sections "Model packet" and "Descriptor".
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from bnnchain_fpga.registers import MODEL_MAGIC, Operation
from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.model import KERNEL_TAPS, POOL_SIDE, Architecture, Conv3x3, LayerGeometry, unpack_rows

if TYPE_CHECKING:
    from bnnchain_kernels.model import BoolArray, Int32Array, Model

UInt32Array: TypeAlias = npt.NDArray[np.uint32]


class DoesNotFit(Unavailable):
    """The model is valid, but this overlay has no room for it; it runs on the CPU instead."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The size of an overlay, as its CAPS registers tell it (defaults: the PYNQ-Z2 build)."""

    lanes: int = 16
    """Images computed at once: a batch."""
    filters: int = 16
    """Outputs computed at once: a group."""
    word_bits: int = 32
    layers: int = 16
    weight_depth: int = 3072
    """Weight words of each filter's bank."""
    activation_depth: int = 4096
    """Activation words of each lane: two input buffers and the outputs of two neighbouring layers."""
    group_depth: int = 256
    classes: int = 256


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """Where one layer lives on the overlay and how it is walked; all addresses and sizes count words."""

    operation: Operation
    geometry: LayerGeometry
    is_last: bool
    input_words: int
    """Of a pixel (CONV), an image row (CONV_ROWS) or the whole input (DENSE): the descriptor's field."""
    pixels: int
    """Parts of K that each start a new word: taps, or the pixels under a dense layer."""
    row_words: int
    """Weight words of one output."""
    groups: int
    input_base: int
    output_base: int
    output_words: int
    weight_base: int
    threshold_base: int

    @property
    def pools(self) -> bool:
        return isinstance(self.geometry.layer, Conv3x3) and self.geometry.layer.pool

    @property
    def computed_positions(self) -> int:
        """Positions the overlay visits: those that pooling drops are skipped."""
        pooled = POOL_SIDE**2 if self.pools else 1
        return self.geometry.out_height * self.geometry.out_width * pooled


@dataclass(frozen=True, slots=True)
class Plan:
    """The placement of a whole architecture."""

    architecture: Architecture
    layers: tuple[LayerPlan, ...]
    image_words: int
    """Activation words of one input image; its place in the stream is one label word more."""
    weight_words: int
    threshold_groups: int


@dataclass(frozen=True, slots=True, eq=False)
class CompiledModel:
    """A model as the overlay takes it; ``packet`` is ``uint32[n]`` and ends with its CRC."""

    plan: Plan
    packet: UInt32Array

    @property
    def crc(self) -> int:
        return int(self.packet[-1])


def compile_model(model: Model, capabilities: Capabilities) -> CompiledModel:
    """Return the packet that loads ``model``; raises :class:`DoesNotFit` where this overlay has no room for it."""
    plan = plan_architecture(model.architecture, capabilities)
    filters, word_bits = capabilities.filters, capabilities.word_bits
    header = [
        MODEL_MAGIC,
        len(plan.layers) | model.architecture.classes << 16,
        plan.weight_words | plan.threshold_groups << 16,
    ]
    parts: list[npt.NDArray[np.uint32]] = [np.array(header, np.uint32)]
    parts += [encode_descriptor(layer) for layer in plan.layers]
    parts += [
        encode_weights(layer, unpack_rows(rows, layer.geometry.fan_in), filters, word_bits)
        for layer, rows in zip(plan.layers, model.weights, strict=True)
    ]
    parts += [
        encode_thresholds(layer, limits, filters)
        for layer, limits in zip(plan.layers[:-1], model.thresholds, strict=True)
    ]
    parts.append(model.biases.view(np.uint32))
    body = np.concatenate(parts)
    packet = np.append(body, np.uint32(zlib.crc32(body.astype("<u4").tobytes())))
    return CompiledModel(plan, packet)


def plan_architecture(architecture: Architecture, capabilities: Capabilities) -> Plan:
    """Return where every layer goes; raises :class:`DoesNotFit` with the numbers where something has no room."""
    _require("layers", len(architecture.layers), capabilities.layers)
    _require("classes", architecture.classes, capabilities.classes)
    layers: list[LayerPlan] = []
    pixel_words = -(-architecture.planes // capabilities.word_bits)
    weight_base = threshold_base = image_words = free_base = previous_base = 0
    for index, geometry in enumerate(architecture.geometry):
        is_last = index == len(architecture.geometry) - 1
        operation = choose_operation(geometry, capabilities, is_first=index == 0)
        pixels = _count_pixels(geometry, operation, is_first=index == 0)
        row_words = pixels * -(-geometry.fan_in // pixels // capabilities.word_bits)
        input_words, total_words = _input_sizes(geometry, operation, pixel_words, row_words)
        if index == 0:
            image_words = total_words
            free_base = 2 * image_words
            _require("words of two input images", free_base, capabilities.activation_depth)
        groups = -(-geometry.out_channels // capabilities.filters)
        pixel_words = -(-geometry.out_channels // capabilities.word_bits)
        output_words = 0 if is_last else geometry.out_height * geometry.out_width * pixel_words
        needed = free_base + output_words + (total_words if index else 0)
        _require(f"activation words at layer {index}", needed, capabilities.activation_depth)
        # Outputs alternate between the two ends of what the input buffers leave, so neighbours never overlap.
        at_end = index % 2 == 1
        output_base = 0 if is_last else capabilities.activation_depth - output_words if at_end else free_base
        layers.append(
            LayerPlan(
                operation,
                geometry,
                is_last,
                input_words,
                pixels,
                row_words,
                groups,
                previous_base,
                output_base,
                output_words,
                weight_base,
                0 if is_last else threshold_base,
            )
        )
        weight_base += groups * row_words
        threshold_base += 0 if is_last else groups
        previous_base = output_base
    _require("weight words of a bank", weight_base, capabilities.weight_depth)
    _require("threshold groups", threshold_base, capabilities.group_depth)
    return Plan(architecture, tuple(layers), image_words, weight_base, threshold_base)


def choose_operation(geometry: LayerGeometry, capabilities: Capabilities, *, is_first: bool) -> Operation:
    """Return how a layer is computed: the window packer takes one-plane images no wider than a word."""
    if not isinstance(geometry.layer, Conv3x3):
        return Operation.DENSE
    fits_packer = geometry.in_channels == 1 and geometry.in_width <= capabilities.word_bits
    return Operation.CONV_ROWS if is_first and fits_packer and capabilities.word_bits >= KERNEL_TAPS else Operation.CONV


def _count_pixels(geometry: LayerGeometry, operation: Operation, *, is_first: bool) -> int:
    if operation is Operation.CONV:
        return KERNEL_TAPS
    # The window packer fills one word; images for a dense layer are streamed without padding.
    return 1 if operation is Operation.CONV_ROWS or is_first else geometry.in_height * geometry.in_width


def _input_sizes(geometry: LayerGeometry, operation: Operation, pixel_words: int, row_words: int) -> tuple[int, int]:
    """Return (the descriptor's input words, words of the whole input)."""
    if operation is Operation.CONV_ROWS:
        return 1, geometry.in_height
    if operation is Operation.CONV:
        return pixel_words, geometry.in_height * geometry.in_width * pixel_words
    return row_words, row_words


def encode_descriptor(layer: LayerPlan) -> UInt32Array:
    """Return the eight words of one layer's descriptor, its CRC last."""
    is_dense = layer.operation is Operation.DENSE
    width, height = (1, 1) if is_dense else (layer.geometry.in_width, layer.geometry.in_height)
    words = np.array(
        [
            layer.operation | int(layer.pools) << 4 | int(layer.is_last) << 5,
            width | height << 16,
            layer.input_words | layer.groups << 16,
            layer.input_base | layer.output_base << 16,
            layer.weight_base | layer.threshold_base << 16,
            layer.geometry.fan_in,
            0,
        ],
        np.uint32,
    )
    return np.append(words, np.uint32(zlib.crc32(words.astype("<u4").tobytes())))


def encode_weights(layer: LayerPlan, rows: BoolArray, filters: int, word_bits: int) -> UInt32Array:
    """Return ``uint32[groups * row_words * filters]``, address-major; padding is 1, where activations are 0.

    rows: ``bool[out, K]``.  A weight of 1 against an activation of 0 is no match, so padding adds nothing to P.
    """
    outputs, fan_in = rows.shape
    channels, padded_channels = fan_in // layer.pixels, layer.row_words // layer.pixels * word_bits
    padded = np.ones((layer.groups * filters, layer.pixels, padded_channels), np.uint8)
    padded[:outputs, :, :channels] = rows.reshape(outputs, layer.pixels, channels)
    words = pack_words(padded.reshape(layer.groups, filters, layer.row_words, word_bits))
    return np.ascontiguousarray(words.transpose(0, 2, 1)).reshape(-1)


def encode_thresholds(layer: LayerPlan, limits: Int32Array, filters: int) -> UInt32Array:
    """Return ``uint32[groups * filters]`` start values, minus the threshold; outputs that only pad never fire."""
    starts = np.full(layer.groups * filters, -(layer.geometry.fan_in + 1), np.int32)
    starts[: len(limits)] = -limits
    return starts.view(np.uint32)


def pack_words(bits: npt.NDArray[np.uint8]) -> UInt32Array:
    """Pack 0/1 ``uint8[..., b]``, b <= 32, into ``uint32[...]``, bit 0 first."""
    octets = np.packbits(bits, axis=-1, bitorder="little")
    padded = np.zeros((*octets.shape[:-1], 4), np.uint8)
    padded[..., : octets.shape[-1]] = octets
    return padded.view("<u4")[..., 0].astype(np.uint32, copy=False)


def _require(what: str, needed: int, available: int) -> None:
    if needed > available:
        raise DoesNotFit(f"the model does not fit the overlay: {what}: {needed}, at most {available}")
