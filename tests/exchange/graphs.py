"""ONNX graphs such as other tools write them: a valid network, and one thing changed at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

FLOAT = onnx.TensorProto.FLOAT


class Graph:
    """Nodes one after the other; ``value`` is the last output."""

    def __init__(self, shape: tuple[object, ...], *, kind: int = FLOAT, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.input = helper.make_tensor_value_info("images", kind, shape)
        self.value = "images"
        self.rng = np.random.default_rng(seed)
        self.producer = "tests"

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), f"c{len(self.constants)}"))
        return f"c{len(self.constants) - 1}"

    def add(self, kind: str, *inputs: str, **attributes: Any) -> Graph:
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.value, *inputs], [output], f"n{len(self.nodes)}", **attributes))
        self.value = output
        return self

    def signs(self, *shape: int) -> np.ndarray:
        return np.where(self.rng.random(shape) < 0.5, -1, 1).astype(np.float32)

    def conv(self, filters: int, channels: int, **attributes: Any) -> Graph:
        return self.add("Conv", self.constant(self.signs(filters, channels, 3, 3)), **attributes)

    def pool(self, **attributes: Any) -> Graph:
        return self.add("MaxPool", **{"kernel_shape": [2, 2], "strides": [2, 2], **attributes})

    def norm(self, count: int, gamma: np.ndarray | None = None) -> Graph:
        draws = (
            np.ones(count) if gamma is None else gamma,
            self.rng.normal(0, 1, count),
            self.rng.normal(0, 3, count),
            self.rng.random(count) * 20,
        )
        return self.add("BatchNormalization", *(self.constant(each) for each in draws), epsilon=1e-3)

    def larq_sign(self) -> Graph:
        """As tf2onnx writes Larq's: sign(sign(x) + 0.1)."""
        return self.add("Sign").add("Add", self.constant(0.1)).add("Sign")

    def where_sign(self, compare: str = "GreaterOrEqual", level: Any = 0.0) -> Graph:
        self.add(compare, self.constant(level))
        return self.add("Where", self.constant(1), self.constant(-1))

    def dense(self, inputs: int, units: int) -> Graph:
        return self.add("MatMul", self.constant(self.signs(inputs, units)))

    def save(self, path: Path, **options: Any) -> Path:
        output = helper.make_tensor_value_info(self.value, FLOAT, [None, None])
        graph = helper.make_graph(self.nodes, "g", [self.input], [output], self.constants)
        opsets = options.pop("opsets", [helper.make_opsetid("", 16)])
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name=self.producer)
        path.write_bytes(model.SerializeToString())
        return path


def channels_first(*, seed: int = 0) -> Graph:
    """A network as PyTorch exports it: float input, sign first."""
    graph = Graph(("batch", 1, 12, 12), seed=seed).larq_sign()
    graph.conv(5, 1).pool().norm(5).larq_sign()
    graph.conv(7, 5).norm(7, graph.rng.normal(0, 1, 7)).where_sign()
    return graph.add("Flatten").dense(7 * 9, 4)


def channels_last(*, seed: int = 0) -> Graph:
    """A network as tf2onnx exports Larq's: channels last outside, transposed around the convolutions."""
    graph = Graph(("batch", 12, 12, 1), seed=seed)
    graph.producer = "tf2onnx"
    graph.larq_sign().add("Transpose", perm=[0, 3, 1, 2]).conv(5, 1).pool().norm(5)
    graph.larq_sign().conv(7, 5).norm(7).add("Transpose", perm=[0, 2, 3, 1])
    graph.add("Reshape", graph.constant([-1, 7 * 9], np.int64)).larq_sign()
    return graph.dense(7 * 9, 6).norm(6).larq_sign().dense(6, 4).add("Softmax")


def reshaped(*, planes: tuple[int, ...] | None = None, seed: int = 0) -> Graph:
    """A network as tf2onnx exports it: Reshape where a transpose moves a side of 1, a 1x1 conv as thermometer."""
    graph = Graph(("batch", 11, 11, 1), seed=seed)
    graph.producer = "tf2onnx"
    graph.add("Reshape", graph.constant([-1, 1, 11, 11], np.int64))
    if planes is not None:
        ones = graph.constant(np.ones((len(planes), 1, 1, 1)))
        graph.add("Conv", ones, graph.constant(0.5 - np.array(planes)), kernel_shape=[1, 1])
        graph.add("Transpose", perm=[0, 2, 3, 1]).larq_sign().add("Transpose", perm=[0, 3, 1, 2])
    graph.conv(5, len(planes or (1,))).pool().norm(5).larq_sign()
    graph.conv(6, 5).pool()  # one place is left
    graph.add("Reshape", graph.constant([-1, 1, 1, 6], np.int64)).add("Transpose", perm=[0, 3, 1, 2]).norm(6)
    return graph.add("Reshape", graph.constant([-1, 6], np.int64)).larq_sign().dense(6, 4)
