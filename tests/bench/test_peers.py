"""What the peers are given is the network itself, and a peer that answers otherwise is not counted."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from random_networks import random_architecture, random_model, random_samples

from bnnchain.bnn.zoo import ZOO
from bnnchain_kernels.measure import random_network
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from types import ModuleType

    from bnnchain_kernels.model import Model

BENCH = Path(__file__).resolve().parents[2] / "bench"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


peers, chart = load("peers"), load("chart")


def score_in_float(model: Model, images: np.ndarray) -> np.ndarray:
    """Evaluate the peers' layers as a float framework does: convolve, add, pool, sign."""
    layers = peers.float_layers(model)
    for index, (is_conv, is_pooled, weights, added) in enumerate(layers):
        if is_conv:
            windows = np.lib.stride_tricks.sliding_window_view(images, (3, 3), axis=(1, 2))
            images = np.einsum("nyxcab,abco->nyxo", windows, weights) + added
        else:
            images = images.reshape(len(images), -1) @ weights + added
        if is_pooled:
            count, height, width, channels = images.shape
            even = images[:, : height // 2 * 2, : width // 2 * 2]
            images = even.reshape(count, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
        if index < len(layers) - 1:
            assert np.all(images != 0), "sign() must not see zero"
            images = np.sign(images)
    return images


@pytest.mark.parametrize("seed", range(40))
def test_float_layers_score_as_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    architecture = random_architecture(rng)
    model = random_model(rng, architecture)
    samples = random_samples(rng, architecture, 9)
    scores = score_in_float(model, peers.signs(samples.unpack(0, 9)))
    assert np.array_equal(scores, ReferenceEvaluator(samples).logits(model, 0, 9))


def test_a_peer_that_differs_in_one_score_is_named() -> None:
    model, samples = random_network(ZOO["cnn-4k"], peers.PEER_IMAGES, 1)
    ours = peers.NativeEvaluator(samples, 1)
    scores = ours.logits(model, 0, peers.PEER_IMAGES).astype(np.float32)
    inputs = np.arange(peers.PEER_IMAGES)
    exact = peers.Float(lambda places: scores[places], inputs, samples.labels, 256)
    assert peers.find_difference(ours, exact, model) is None
    assert exact.correct(model, 0, peers.PEER_IMAGES).sum() == ours.correct(model, 0, peers.PEER_IMAGES).sum()
    scores[-1, 0] += 0.25
    assert peers.find_difference(ours, exact, model) == f"1 of {peers.PEER_IMAGES} images have other scores"


@pytest.mark.skipif(importlib.util.find_spec("larq_compute_engine") is not None, reason="it is installed here")
def test_a_peer_that_is_not_installed_is_a_row_that_says_so() -> None:
    row = peers.measure_in_child("cnn-4k", "compute-engine", 1)
    assert row["not_measured"].startswith("not installed: ")
    assert "not measured: not installed" in peers.describe(row)


def test_the_onnx_graph_scores_as_the_kernels() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    for name in peers.MODELS:
        model, samples = random_network(ZOO[name], 64, 1)
        score = peers.onnxruntime_float(model, 64)
        wanted = ReferenceEvaluator(samples).logits(model, 0, 64)
        assert np.array_equal(score(peers.signs(samples.unpack(0, 64))), wanted)


def report() -> dict[str, Any]:
    row = {"model": "cnn-4k", "backend": "c", "isa": "avx2", "threads": 1, "gmac_per_s_per_core": 400.0}
    peer = {"model": "cnn-4k", "peer": "tflite", "images_per_s_per_core": 1e5, "ours_images_per_s_per_core": 8e6}
    return {
        "machine": {"processor": "x", "cpus": 2},
        "roofs": {"ymm Harley-Seal": 450.0},
        "rows": [row, {**row, "threads": 2}],
        "peers": [{**peer, "times_faster": 80.0}, {"model": "cnn-4k", "peer": "larq-xla", "not_measured": "why"}],
    }


def test_a_chart_without_matplotlib_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SystemExit, match=r"bnnchain\[bench\]"):
        chart.draw_chart(report(), str(tmp_path / "chart"))
    assert not list(tmp_path.iterdir())


def test_a_chart_is_drawn_with_and_without_peers(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, drawn in (("both", report()), ("kernels", {**report(), "peers": []})):
        png, svg = chart.draw_chart(drawn, str(tmp_path / name))
        assert png.read_bytes().startswith(b"\x89PNG")
        assert "<svg" in svg.read_text()
