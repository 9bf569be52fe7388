"""Golden vectors: small models and samples with the answers the reference gave, which every backend must repeat.

A few ship inside the package, and ``select.py`` refuses a backend that disagrees with them on this machine.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bnnchain_kernels.evaluator import Samples
from bnnchain_kernels.model import Architecture, Conv3x3, Dense, Layer, Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain_kernels.evaluator import EvaluatorFactory
    from bnnchain_kernels.model import Int32Array

SELF_CHECK_FILE: Final = "selfcheck.json"


@dataclass(frozen=True, slots=True, eq=False)
class GoldenCase:
    """One model on one set of samples, with the exact answers.

    correct: per 512-image block; logits_sha256: of all logits as little-endian int32, image by image.
    """

    name: str
    model: Model
    samples: Samples
    correct: tuple[int, ...]
    logits_sha256: str

    def to_json(self) -> dict[str, object]:
        """Return the case as plain JSON values; arrays are hexadecimal, little-endian."""
        architecture = self.model.architecture
        return {
            "name": self.name,
            "input": [architecture.height, architecture.width, architecture.planes],
            "layers": [_layer_name(layer) for layer in architecture.layers],
            "weights": [rows.astype("<u8").tobytes().hex() for rows in self.model.weights],
            "thresholds": [limits.tolist() for limits in self.model.thresholds],
            "biases": self.model.biases.tolist(),
            "images": self.samples.images.tobytes().hex(),
            "labels": self.samples.labels.tobytes().hex(),
            "correct": list(self.correct),
            "logits_sha256": self.logits_sha256,
        }


def hash_logits(logits: Int32Array) -> str:
    """Return the SHA-256 of logits, ``int32[images, classes]``, as hexadecimal."""
    return hashlib.sha256(logits.astype("<i4").tobytes()).hexdigest()


def parse_case(fields: dict[str, Any]) -> GoldenCase:
    """Return a case from its JSON form."""
    height, width, planes = fields["input"]
    architecture = Architecture(height, width, planes, tuple(_parse_layer(name) for name in fields["layers"]))
    weights = tuple(
        np.frombuffer(bytes.fromhex(rows), "<u8").astype(np.uint64).reshape(place.out_channels, place.row_words)
        for rows, place in zip(fields["weights"], architecture.geometry, strict=True)
    )
    thresholds = tuple(np.array(limits, np.int32) for limits in fields["thresholds"])
    model = Model(architecture, weights, thresholds, np.array(fields["biases"], np.int32))
    labels = np.frombuffer(bytes.fromhex(fields["labels"]), np.uint8)
    row_bytes = -(-architecture.input_bits // 8)
    images = np.frombuffer(bytes.fromhex(fields["images"]), np.uint8).reshape(len(labels), row_bytes)
    samples = Samples(height, width, planes, architecture.classes, images, labels)
    return GoldenCase(fields["name"], model, samples, tuple(fields["correct"]), fields["logits_sha256"])


def self_check_cases() -> list[GoldenCase]:
    """Return the cases that ship with the package."""
    text = files("bnnchain_kernels").joinpath(SELF_CHECK_FILE).read_text(encoding="ascii")
    return [parse_case(fields) for fields in json.loads(text)]


def find_difference(factory: EvaluatorFactory, cases: Sequence[GoldenCase]) -> str | None:
    """Return where a backend's answers differ from the golden ones, or None where they agree."""
    for case in cases:
        evaluator = factory(case.samples)
        counts = evaluator.correct(case.model, 0, len(case.samples)).tolist()
        if counts != list(case.correct):
            return f"counts {counts}, not {list(case.correct)}, on golden vector {case.name!r}"
        logits = evaluator.logits(case.model, 0, len(case.samples))
        if logits.dtype != np.int32 or hash_logits(logits) != case.logits_sha256:
            return f"wrong logits on golden vector {case.name!r}"
    return None


def _layer_name(layer: Layer) -> str:
    if isinstance(layer, Conv3x3):
        return f"conv3x3 {layer.filters}{' pool' if layer.pool else ''}"
    return f"dense {layer.units}"


def _parse_layer(name: str) -> Layer:
    kind, size, *pool = name.split()
    return Conv3x3(int(size), pool=bool(pool)) if kind == "conv3x3" else Dense(int(size))
