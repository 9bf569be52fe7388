"""How much faster are the kernels than what else runs a binary network exactly?

    python bench/peers.py [--model cnn-4k] [--peer onnxruntime] [--repeats 5] [--json FILE]

Needs ``pip install .`` beside the peers: ``onnx onnxruntime`` (the extra ``bench``), and for the rest
``larq tensorflow tf_keras larq-compute-engine`` on Python 3.11 or 3.12 with NumPy 1.26.  A peer that is not
installed is a row that says so.

Every network has valid convolutions and random weights.  One thread; each (model, peer) in a process of its own, in
which our kernel and the peer take turns, so that a row's ratio is of figures taken together.  Each peer runs with every
batch size and its best counts; its images are prepared beforehand, untimed.  Its labels and scores must equal ours on
all images: a peer that differs is no peer, and its row says so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.bnn.zoo import ZOO
from bnnchain_kernels.evaluator import predict
from bnnchain_kernels.measure import Throughput, images_for, machine_name, measure_throughput, random_network
from bnnchain_kernels.model import Conv3x3, unpack_weights
from bnnchain_kernels.native import NativeEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain_kernels.model import Int32Array, Model

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
ENVIRONMENT = dict.fromkeys(ONE_THREAD, "1") | {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_USE_LEGACY_KERAS": "1"}
"""Of every child, read when the libraries are loaded; Larq dies without legacy Keras."""
SEED = 1
MODELS = ("cnn-4k", "cnn-94k", "cnn-1m")
PEER_IMAGES = 2048
BATCHES = (1, 32, 256, 1024)
TARGETS = {"cnn-4k": 40, "cnn-94k": 16, "cnn-1m": 5}
CHILD_TIMEOUT_S = 300
OURS_SHARE = 3
"""Our kernel is measured before, between and after the peer's batches."""


@dataclass
class Float:
    """A peer as an evaluator: scores of prepared images, one batch size."""

    score: Callable[[np.ndarray], np.ndarray]
    inputs: np.ndarray
    labels: np.ndarray
    batch: int

    def logits(self, _model: Model, start: int, stop: int) -> np.ndarray:
        """Return the scores of the images ``start`` to ``stop``."""
        starts = range(start, stop, self.batch)
        return np.concatenate([self.score(self.inputs[first : first + self.batch]) for first in starts])

    def correct(self, model: Model, start: int, stop: int) -> Int32Array:
        """Return the count of right labels, as ours does."""
        return np.array(
            [np.count_nonzero(predict(self.logits(model, start, stop)) == self.labels[start:stop])], np.int32
        )


def signs(bits: np.ndarray) -> np.ndarray:
    """Return 0/1 as -1/+1 floats."""
    return bits.astype(np.float32) * 2 - 1


def float_layers(model: Model) -> list[tuple[bool, bool, np.ndarray, np.ndarray]]:
    """Return per layer: is it a convolution, is it pooled, its +-1 weights, and what is added before the sign.

    Weights are (3, 3, in, out) or (in, out), inputs in (y, x, channel) order.  A sum s = 2P - K reaches its threshold
    where s - (2T - K) >= 0; both have K's parity, so one more makes it odd, and sign() never sees zero.
    """
    layers = []
    thresholds: list[Int32Array | None] = [*model.thresholds, None]
    for place, bits, limits in zip(model.architecture.geometry, unpack_weights(model), thresholds, strict=True):
        is_conv = isinstance(place.layer, Conv3x3)
        weights = signs(bits).T
        if is_conv:
            weights = weights.reshape(3, 3, place.in_channels, place.out_channels)
        added = model.biases if limits is None else 1 + place.fan_in - 2 * limits
        layers.append((is_conv, is_conv and place.layer.pool, np.ascontiguousarray(weights), added.astype(np.float32)))
    return layers


# --- the peers: from a model to score(float32[batch, 28, 28, 1] of +-1) -> float32[batch, classes] --------------------


def onnxruntime_float(model: Model, _batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """Stock operators alone: Conv, MaxPool, Sign, MatMul in float, exact while sums stay below 2^24."""
    onnx, runtime = import_module("onnx"), import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(onnx_bytes(onnx, model), options, providers=["CPUExecutionProvider"])
    # One channel: (batch, y, x, 1) and (batch, 1, y, x) are the same bytes.
    return lambda images: session.run(None, {"images": images.transpose(0, 3, 1, 2)})[0]


def onnx_bytes(onnx: Any, model: Model) -> bytes:  # noqa: ANN401
    """Return the ONNX graph: +-1 images (batch, plane, y, x) to scores."""
    helper, nodes, initializers, value, was_conv = onnx.helper, [], [], "images", False

    def add(kind: str, inputs: list[str], **attributes: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"v{len(nodes)}"], **attributes))
        return f"v{len(nodes) - 1}"

    def constant(array: np.ndarray) -> str:
        initializers.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), f"c{len(initializers)}"))
        return f"c{len(initializers) - 1}"

    places = model.architecture.geometry
    for index, (is_conv, is_pooled, weights, added) in enumerate(float_layers(model)):
        if is_conv:
            value = add("Conv", [value, constant(weights.transpose(3, 2, 0, 1)), constant(added)], kernel_shape=[3, 3])
        else:
            if was_conv:  # the channels come first here: the weights are moved once instead of the activations
                value, place = add("Flatten", [value]), places[index]
                shape = (place.in_height, place.in_width, place.in_channels, -1)
                weights = weights.reshape(shape).transpose(2, 0, 1, 3).reshape(weights.shape)  # noqa: PLW2901
            value = add("Gemm", [value, constant(weights), constant(added)])
        if is_pooled:
            value = add("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2])
        if index < len(places) - 1:
            value = add("Sign", [value])
        was_conv = is_conv
    shape = model.architecture
    info, kind = helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "bnn",
        [info("images", kind, ["batch", shape.planes, shape.height, shape.width])],
        [info(value, kind, ["batch", shape.classes])],
        initializers,
    )
    exported = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(exported)
    return exported.SerializeToString()


def larq_keras(model: Model, batch: int | None) -> Any:  # noqa: ANN401
    """Return the same network as Larq writes it; its normalisation carries the thresholds."""
    tensorflow, larq = import_module("tensorflow"), import_module("larq")
    keras, shape = tensorflow.keras, model.architecture
    images = keras.Input((shape.height, shape.width, shape.planes), batch_size=batch)
    value, layers, was_conv = images, float_layers(model), True
    for index, (is_conv, is_pooled, weights, added) in enumerate(layers):
        quantized = {"kernel_quantizer": "ste_sign", "use_bias": False} | (
            {"input_quantizer": "ste_sign"} if index else {}
        )
        if is_conv:
            layer = larq.layers.QuantConv2D(weights.shape[-1], 3, padding="valid", **quantized)
        else:
            value = keras.layers.Flatten()(value) if was_conv else value
            layer = larq.layers.QuantDense(weights.shape[-1], **quantized)
        value = layer(value)
        layer.set_weights([weights])
        if is_pooled:
            value = keras.layers.MaxPool2D(2, 2)(value)
        if index < len(layers) - 1:
            normal = keras.layers.BatchNormalization(scale=False, epsilon=0.0)
            value = normal(value)
            normal.set_weights([added, np.zeros_like(added), np.ones_like(added)])
        elif added.any():
            value = value + added
        was_conv = is_conv
    return keras.Model(images, value)


def larq_tensorflow(model: Model, _batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """Larq's own layers in TensorFlow, compiled by tf.function."""
    tensorflow = import_module("tensorflow")
    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    network = larq_keras(model, None)
    compiled = tensorflow.function(lambda images: network(images, training=False))
    return lambda images: compiled(tensorflow.constant(images)).numpy()


def larq_xla(model: Model, _batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """The same, compiled by XLA."""
    tensorflow = import_module("tensorflow")
    network = larq_keras(model, None)
    compiled = tensorflow.function(lambda images: network(images, training=False), jit_compile=True)
    return lambda images: compiled(tensorflow.constant(images)).numpy()


def tflite_float(model: Model, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """TensorFlow Lite in float, with its XNNPACK delegate."""
    tensorflow = import_module("tensorflow")
    content = tensorflow.lite.TFLiteConverter.from_keras_model(larq_keras(model, batch)).convert()
    interpreter = tensorflow.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    result = interpreter.get_output_details()[0]["index"]

    def score(images: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(source, images)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return score


def compute_engine(model: Model, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """Larq Compute Engine: bit-packed convolutions, portable C++ on x86."""
    engine = import_module("larq_compute_engine")
    content = engine.convert_keras_model(larq_keras(model, batch))
    # Its own predict() feeds image by image; what it wraps takes a whole batch.
    interpreter = engine.testing.Interpreter(content, num_threads=1, use_xnnpack=True).interpreter

    def score(images: np.ndarray) -> np.ndarray:
        return np.asarray(interpreter.predict([images])[0])

    return score


PEERS: dict[str, Callable[[Model, int], Callable[[np.ndarray], np.ndarray]]] = {
    "onnxruntime": onnxruntime_float,
    "tflite": tflite_float,
    "larq-tensorflow": larq_tensorflow,
    "larq-xla": larq_xla,
    "compute-engine": compute_engine,
}


# --- measuring --------------------------------------------------------------------------------------------------------


def measure_pair(name: str, peer: str, repeats: int) -> dict[str, object]:
    """Return one row: the peer's best batch and our kernel, taken in turns in this process."""
    images = max(images_for(ZOO[name]), PEER_IMAGES)
    model, samples = random_network(ZOO[name], images, SEED)
    ours = NativeEvaluator(samples, threads=1)
    inputs = signs(samples.unpack(0, PEER_IMAGES))
    our_rates: list[float] = []
    found: dict[int, Throughput] = {}
    for batch in BATCHES:
        evaluator = Float(PEERS[peer](model, batch), inputs, samples.labels, batch)
        count = min(PEER_IMAGES, 8 * batch)
        if difference := find_difference(ours, evaluator, model):
            return {"model": name, "peer": peer, "not_measured": difference}
        our_rates += measure_throughput(ours, model, images, 1).images_per_cpu_s
        found[batch] = measure_throughput(evaluator, model, count, repeats)
    our_rates += measure_throughput(ours, model, images, OURS_SHARE).images_per_cpu_s
    batch, theirs = max(found.items(), key=lambda each: median_rate(each[1]))
    our_rate, their_rate = statistics.median(our_rates), median_rate(theirs)
    return {
        "model": name,
        "peer": peer,
        "isa": ours.isa,
        "batch": batch,
        "images_per_s_per_core": round(their_rate, 1),
        "spread": round((max(theirs.images_per_cpu_s) - min(theirs.images_per_cpu_s)) / their_rate, 3),
        "ours_images_per_s_per_core": round(our_rate, 1),
        "times_faster": round(our_rate / their_rate, 2),
        "images_checked": PEER_IMAGES,
    }


def median_rate(result: Throughput) -> float:
    """Return images per second of processor time."""
    return statistics.median(result.images_per_cpu_s)


def find_difference(ours: NativeEvaluator, peer: Float, model: Model) -> str | None:
    """Return how a peer's labels or scores differ from ours, or None where all are equal."""
    wanted = ours.logits(model, 0, PEER_IMAGES)
    scores = peer.logits(model, 0, PEER_IMAGES)
    if not np.array_equal(scores, wanted):
        return f"{np.count_nonzero((scores != wanted).any(axis=1))} of {PEER_IMAGES} images have other scores"
    return None if np.array_equal(predict(scores), predict(wanted)) else "labels differ"


def measure_in_child(name: str, peer: str, repeats: int) -> dict[str, object]:
    """Return a row measured in a process of its own, or one that says why there is none."""
    arguments = [sys.executable, __file__, "--child", "--model", name, "--peer", peer, "--repeats", str(repeats)]
    try:
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            timeout=CHILD_TIMEOUT_S,
            check=False,
            env={**os.environ, **ENVIRONMENT},
        )
    except subprocess.TimeoutExpired:
        return {"model": name, "peer": peer, "not_measured": f"not done within {CHILD_TIMEOUT_S} s"}
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return {"model": name, "peer": peer, "not_measured": reason[:200]}
    row: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return row


def describe(row: dict[str, object]) -> str:
    """Return a row for people."""
    start = f"{row['model']:9}{row['peer']:17}"
    if "not_measured" in row:
        return f"{start}not measured: {row['not_measured']}"
    return (
        f"{start}{row['batch']:6}{row['images_per_s_per_core']:12,.0f}{row['spread']:8.0%}"
        f"{row['ours_images_per_s_per_core']:14,.0f}{row['times_faster']:9.1f} x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", action="append", choices=MODELS)
    parser.add_argument("--peer", action="append", choices=PEERS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        try:
            print(json.dumps(measure_pair(options.model[0], options.peer[0], options.repeats)))
        except ImportError as error:
            sys.exit(f"not installed: {error.name}")
        return
    report = sys.stderr if options.json == "-" else sys.stdout
    load = [round(each, 1) for each in os.getloadavg()]
    print(f"{machine_name()}, {os.cpu_count()} cpus, load {load}, one thread, processor time", file=report)
    print(f"{'model':9}{'peer':17}{'batch':>6}{'images/s':>12}{'spread':>8}{'ours':>14}{'ratio':>11}", file=report)
    rows, begin = [], time.monotonic()
    for name in options.model or MODELS:
        for peer in options.peer or PEERS:
            rows.append(measure_in_child(name, peer, options.repeats))
            print(describe(rows[-1]), file=report, flush=True)
        ratios = [float(str(row["times_faster"])) for row in rows if row["model"] == name and "times_faster" in row]
        if ratios:
            print(f"{name}: at least {min(ratios):.1f} x every exact peer (target {TARGETS[name]} x)", file=report)
    machine = {"processor": machine_name(), "cpus": os.cpu_count(), "load": load}
    print(f"{time.monotonic() - begin:.0f} s", file=report)
    if options.json:
        text = json.dumps({"machine": machine, "seed": SEED, "rows": rows}, indent=1)
        if options.json == "-":
            print(text)
        else:
            Path(options.json).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
