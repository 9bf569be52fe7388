"""Golden vectors: small models with their images and exact logits, run at start before an overlay is believed.

The numbers are frozen in ``golden.json``; the tests hold them against the reference kernel.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain_fpga.images import pack_images
from bnnchain_kernels.errors import Fault
from bnnchain_kernels.evaluator import Samples
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Layer, Model

if TYPE_CHECKING:
    from bnnchain_fpga.driver import Driver
    from bnnchain_kernels.model import Int32Array


@dataclass(frozen=True, slots=True, eq=False)
class GoldenVector:
    """One model, its images and the logits ``int32[n, classes]`` that it must give."""

    name: str
    model: Model
    samples: Samples
    logits: Int32Array


def load_golden() -> tuple[GoldenVector, ...]:
    """Return the frozen vectors."""
    text = resources.files("bnnchain_fpga").joinpath("golden.json").read_text(encoding="ascii")
    return tuple(decode_vector(entry) for entry in json.loads(text))


def check_golden(driver: Driver) -> int:
    """Run every vector on the overlay and return their number; raises ``Fault`` at the first wrong logit."""
    vectors = load_golden()
    for vector in vectors:
        compiled = driver.compile(vector.model)
        driver.load(vector.model, compiled)
        images = pack_images(vector.samples, compiled.plan, driver.capabilities)
        run = driver.run(images, want_logits=True)
        if run.logits is None or not np.array_equal(run.logits, vector.logits):
            raise Fault(f"the overlay computes golden vector {vector.name} wrongly")
    return len(vectors)


def encode_vector(vector: GoldenVector) -> dict[str, Any]:
    """Return a vector as JSON values: bits as hexadecimal octets, bit 0 first."""
    architecture, samples = vector.model.architecture, vector.samples
    return {
        "name": vector.name,
        "input": [architecture.height, architecture.width, architecture.planes],
        "layers": [_encode_layer(layer) for layer in architecture.layers],
        "weights": [rows.astype("<u8").tobytes().hex() for rows in vector.model.weights],
        "thresholds": [limits.tolist() for limits in vector.model.thresholds],
        "biases": vector.model.biases.tolist(),
        "images": samples.images.tobytes().hex(),
        "labels": samples.labels.tolist(),
        "logits": vector.logits.tolist(),
    }


def decode_vector(entry: dict[str, Any]) -> GoldenVector:
    """Return the vector of :func:`encode_vector`."""
    height, width, planes = entry["input"]
    architecture = Architecture(height, width, planes, tuple(_decode_layer(layer) for layer in entry["layers"]))
    weights = tuple(
        np.frombuffer(bytes.fromhex(text), "<u8").astype(np.uint64).reshape(layer.out_channels, layer.row_words)
        for layer, text in zip(architecture.geometry, entry["weights"], strict=True)
    )
    thresholds = tuple(np.array(limits, np.int32) for limits in entry["thresholds"])
    model = Model(architecture, weights, thresholds, np.array(entry["biases"], np.int32))
    labels = np.array(entry["labels"], np.uint8)
    images = np.frombuffer(bytes.fromhex(entry["images"]), np.uint8).reshape(len(labels), -1)
    samples = Samples(height, width, planes, architecture.classes, images, labels)
    return GoldenVector(entry["name"], model, samples, np.array(entry["logits"], np.int32))


def _encode_layer(layer: Layer) -> list[Any]:
    return ["conv3x3", layer.filters, layer.pool] if isinstance(layer, Conv3x3) else ["dense", layer.units]


def _decode_layer(entry: list[Any]) -> Layer:
    return Conv3x3(entry[1], entry[2]) if entry[0] == "conv3x3" else Dense(entry[1])
