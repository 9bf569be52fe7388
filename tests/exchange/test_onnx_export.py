from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from exchange.papers import papers, wanted_scores, zoo_model, zoo_pixels
from random_networks import random_architecture, random_model, random_samples

from bnnchain.bnn.zoo import ZOO
from bnnchain.exchange import floats
from bnnchain.exchange.onnx_export import export_onnx
from bnnchain.exchange.provenance import provenance_from_json
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.evaluator import predict
from bnnchain_kernels.reference import ReferenceEvaluator


def run(data: bytes, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    parts = [session.run(["labels", "scores"], {"images": images[at : at + 500]}) for at in range(0, len(images), 500)]
    labels, scores = (np.concatenate(each) for each in zip(*parts, strict=True))
    return labels, scores


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_labels_and_scores_are_the_kernels_on_ten_thousand_images(name: str) -> None:
    model, (pixels, thresholds) = zoo_model(name), zoo_pixels(name)
    labels, scores = run(export_onnx(model, papers(model), thresholds), pixels)
    wanted = wanted_scores(model, pixels, thresholds)
    assert len(np.unique(predict(wanted))) > 1
    assert len(scores) == 10_000
    assert (scores != wanted).sum() == 0
    assert (labels != predict(wanted)).sum() == 0


@pytest.mark.parametrize("seed", range(12))
def test_random_shapes_take_bits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    model, samples = random_model(rng, shape), random_samples(rng, shape, 200)
    labels, scores = run(export_onnx(model, papers(model), None), samples.unpack(0, 200))
    wanted = ReferenceEvaluator(samples).logits(model, 0, 200)
    np.testing.assert_array_equal(scores, wanted)
    np.testing.assert_array_equal(labels, predict(wanted))  # ties, too, go to the lowest class


def test_it_uses_stock_operators_and_says_where_it_comes_from() -> None:
    model = zoo_model("cnn-4k")
    provenance = papers(model, thresholds=(128,))
    proto = onnx.load_model_from_string(export_onnx(model, provenance, (128,)))
    assert {each.domain for each in proto.opset_import} == {""}
    assert [(each.name, each.type.tensor_type.elem_type) for each in proto.graph.input] == [("images", 2)]
    metadata = {each.key: each.value for each in proto.metadata_props}
    assert provenance_from_json(metadata["bnnchain"]) == provenance
    assert metadata["bnnchain.accuracy"] == "54321 of 60000 (90.53 %)"
    assert metadata["bnnchain.licence"] == "CC-BY-SA-3.0"
    assert metadata["input"] == "uint8, grey values (batch, y, x); planes are pixel >= 128"
    assert json.loads(metadata["bnnchain"])["block_id"] == "cd" * 32


def test_thresholds_must_fit_the_planes() -> None:
    model = zoo_model("cnn-digits")
    for thresholds in ((128,), (3, 7, 7, 15), (0, 3, 7, 11), (3, 7, 11, 256)):
        with pytest.raises(Invalid, match="bad-model-file"):
            export_onnx(model, papers(model), thresholds)


def test_sums_beyond_the_exact_floats_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = zoo_model("cnn-4k")  # its largest: a fan-in of 144 with a threshold of 0 or K + 1 makes at most 289
    largest = max(layer.place.fan_in + int(np.abs(layer.added).max()) for layer in floats.float_layers(model))
    monkeypatch.setattr(floats, "EXACT_FLOAT_LIMIT", largest + 1)
    assert floats.float_layers(model)
    monkeypatch.setattr(floats, "EXACT_FLOAT_LIMIT", largest)
    with pytest.raises(Invalid, match=rf"bad-export .*largest={largest}"):
        export_onnx(model, papers(model), None)
