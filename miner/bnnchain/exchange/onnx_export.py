"""A model as an ONNX graph of stock operators, whose labels and integer scores equal the kernel's in any runtime.

Input ``images``: ``uint8[batch, height, width]``, grey values; or, where the bits are made elsewhere,
``uint8[batch, height, width, planes]`` of 0 and 1.  Outputs ``labels``: ``int64[batch]``; ``scores``:
``int32[batch, classes]``.  Floats carry small integers inside, exactly (:mod:`bnnchain.exchange.floats`); weights are
stored as int8 and cast when a runtime loads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.exchange.extras import load_extra
from bnnchain.exchange.floats import FloatLayer, float_layers
from bnnchain.exchange.provenance import METADATA_KEY, validate_thresholds

if TYPE_CHECKING:
    from bnnchain.exchange.provenance import Provenance
    from bnnchain_kernels.model import Architecture, Model

OPSET = 13
IR_VERSION = 8
"""Of 2021: runtimes as old as onnxruntime 1.10 load it."""


def export_onnx(model: Model, provenance: Provenance, thresholds: tuple[int, ...] | None) -> bytes:
    """Return the ONNX file; with ``thresholds`` it takes grey values, without it takes bits.

    Raises :class:`~bnnchain_kernels.errors.Unavailable` without the extra ``onnx``.
    """
    onnx = load_extra("onnx", "onnx")
    validate_thresholds(thresholds, model.architecture)
    graph = _Graph(onnx)
    value, previous = _read_input(graph, model.architecture, thresholds), None
    layers = float_layers(model)
    for layer in layers:
        value = _add_layer(graph, value, layer, previous)
        if layer is not layers[-1]:
            value = graph.add("Sign", [value])
        previous = layer
    graph.add("ArgMax", [value], "labels", axis=1, keepdims=0, select_last_index=0)
    graph.add("Cast", [value], "scores", to=onnx.TensorProto.INT32)
    exported = _finish(graph, model.architecture, thresholds, provenance)
    onnx.checker.check_model(exported, full_check=True)
    return bytes(exported.SerializeToString())


class _Graph:
    """Nodes and constants as they are added; values are named in order."""

    def __init__(self, onnx: Any) -> None:  # noqa: ANN401  (a module)
        self.onnx = onnx
        self.nodes: list[object] = []
        self.constants: list[object] = []

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: object) -> str:
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [output], f"{kind}_{len(self.nodes)}", **attributes))
        return output

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def weights(self, array: np.ndarray) -> str:
        return self.add("Cast", [self.constant(array.astype(np.int8))], to=self.onnx.TensorProto.FLOAT)


def _read_input(graph: _Graph, shape: Architecture, thresholds: tuple[int, ...] | None) -> str:
    """Return the value of -1/+1 floats (batch, plane, y, x); half a grey value keeps the sign off zero."""
    value = graph.add("Cast", ["images"], to=graph.onnx.TensorProto.FLOAT)
    if thresholds is None:
        value = graph.add("Transpose", [value], perm=[0, 3, 1, 2])
    else:
        value = graph.add("Unsqueeze", [value, graph.constant(np.array([1], np.int64))])
    levels = np.array(thresholds or [1] * shape.planes, np.float32).reshape(1, shape.planes, 1, 1)
    return graph.add("Sign", [graph.add("Sub", [value, graph.constant(levels - np.float32(0.5))])])


def _add_layer(graph: _Graph, value: str, layer: FloatLayer, previous: FloatLayer | None) -> str:
    added = graph.constant(layer.added.astype(np.float32))
    if layer.is_conv:
        weights = graph.weights(layer.weights.transpose(3, 2, 0, 1))
        value = graph.add("Conv", [value, weights, added], kernel_shape=[3, 3])
        return graph.add("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2]) if layer.is_pooled else value
    rows = layer.weights
    if previous is None or previous.is_conv:
        # The channels come first here: the weights are moved once instead of the activations.
        place = layer.place
        value = graph.add("Flatten", [value])
        by_place = rows.reshape(place.in_height, place.in_width, place.in_channels, place.out_channels)
        rows = by_place.transpose(2, 0, 1, 3).reshape(rows.shape)
    return graph.add("Gemm", [value, graph.weights(rows), added])


def _finish(graph: _Graph, shape: Architecture, thresholds: tuple[int, ...] | None, provenance: Provenance) -> Any:  # noqa: ANN401
    helper, kinds = graph.onnx.helper, graph.onnx.TensorProto
    sides = ["batch", shape.height, shape.width]
    if thresholds is None:
        image, meaning = [*sides, shape.planes], "bits, 0 or 1 (batch, y, x, plane)"
    else:
        image, meaning = sides, f"grey values (batch, y, x); planes are pixel >= {' '.join(map(str, thresholds))}"
    inputs = [helper.make_tensor_value_info("images", kinds.UINT8, image, doc_string=meaning)]
    outputs = [
        helper.make_tensor_value_info("labels", kinds.INT64, ["batch"], doc_string="class of the largest score"),
        helper.make_tensor_value_info("scores", kinds.INT32, ["batch", shape.classes], doc_string="exact integers"),
    ]
    text = "\n".join(["A binary neural network of a bnnchain.", f"images: uint8, {meaning}", *provenance.lines()])
    made = helper.make_graph(graph.nodes, "bnn", inputs, outputs, graph.constants, doc_string=text)
    exported = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="bnnchain",
        doc_string=text,
    )
    described = dict(line.split(": ", 1) for line in provenance.lines())
    metadata = {METADATA_KEY: provenance.to_json(), "input": f"uint8, {meaning}"}
    helper.set_model_props(exported, metadata | {f"{METADATA_KEY}.{name}": text for name, text in described.items()})
    return exported
