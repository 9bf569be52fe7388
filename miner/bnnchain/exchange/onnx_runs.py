"""What onnxruntime answers: a whole file, the part that makes its bits, or the steps from sums to signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.exchange.extras import load_extra
from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bnnchain.exchange.assembly import SignsOf
    from bnnchain.exchange.onnx_graph import OnnxFile, OnnxNode
    from bnnchain_kernels.model import BoolArray

GREYS = 256
GREYS_AT_ONCE = 16
IR_VERSION = 8
QUIET = 4


@dataclass(slots=True, eq=False)
class Feed:
    """How images become the file's input.

    axes: the input's, of ``n h w c`` in its order, perhaps without ``c``; batch: its fixed size, or None.
    """

    axes: tuple[str, ...]
    dtype: np.dtype[Any]
    batch: int | None
    is_signs: bool
    """Bits are fed as -1 and +1."""
    is_grey: bool = False
    """Images are (n, h, w), grey values."""

    def of(self, images: np.ndarray) -> np.ndarray:
        """Return the input for ``uint8[n, h, w]`` of grey values or ``uint8[n, h, w, c]`` of bits."""
        every = images[..., None] if images.ndim == 3 else images  # noqa: PLR2004
        values = every.astype(self.dtype)
        values = values * self.dtype.type(2) - self.dtype.type(1) if self.is_signs else values
        if "c" not in self.axes:
            values = values[..., 0]
        return np.ascontiguousarray(values.transpose([("n", "h", "w", "c").index(axis) for axis in self.axes]))


def run_model(content: OnnxFile, feed: Feed, images: np.ndarray, output: str) -> np.ndarray:
    """Return what the whole file answers to images; raises ``bad-import`` where the runtime refuses it."""
    return _run(_session(content.data), content.input_name, feed.of(images), output, feed.batch)


def probe_greys(content: OnnxFile, value: str, feed: Feed, size: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Yield an inner value for images each of one grey value, 0 to 255 in order.

    The inner value keeps its own order of axes; a few images at a time, for they may be large.
    """
    onnx = load_extra("onnx", "onnx")
    proto = onnx.load_model_from_string(content.data)
    last = next(index for index, node in enumerate(proto.graph.node) if value in node.output)
    del proto.graph.node[last + 1 :]
    del proto.graph.output[:]
    proto.graph.output.append(onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, None))
    session = _session(proto.SerializeToString())
    for first in range(0, GREYS, GREYS_AT_ONCE):
        greys = np.arange(first, first + GREYS_AT_ONCE, dtype=np.uint8)[:, None, None, None]
        images = np.broadcast_to(greys, (GREYS_AT_ONCE, *size))
        yield _run(session, content.input_name, feed.of(images), value, feed.batch)


def signs_by_runtime(opset: int, steps: list[tuple[OnnxNode, list[np.ndarray]]]) -> SignsOf:
    """Return the runtime's way from sums ``float32[n, out]`` to signs: the file's own nodes, one after the other."""
    onnx = load_extra("onnx", "onnx")
    helper, nodes, constants, value = onnx.helper, [], [], "sums"
    for index, (node, numbers) in enumerate(steps):
        names = [f"c{index}_{place}" for place in range(len(numbers))]
        constants += [onnx.numpy_helper.from_array(each, name) for each, name in zip(numbers, names, strict=True)]
        attributes = {name: each for name, each in node.attributes.items() if name in {"epsilon", "momentum"}}
        nodes.append(helper.make_node(node.kind, [value, *names], [f"v{index}"], **attributes))
        value = f"v{index}"
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "steps",
        [helper.make_tensor_value_info("sums", kind, ["n", "out"])],
        [helper.make_tensor_value_info(value, kind, ["n", "out"])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    data = made.SerializeToString()

    def signs_of(sums: np.ndarray) -> BoolArray:
        answers: BoolArray = _run(_session(data), "sums", sums, value, None) > 0
        return answers

    return signs_of


def _session(data: bytes) -> Any:  # noqa: ANN401  (an InferenceSession)
    runtime = load_extra("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = QUIET
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  (its errors share no base but this)
        raise Invalid("bad-import", reason=_first_line("onnxruntime refuses it", error)) from None


def _run(session: Any, name: str, values: np.ndarray, output: str, batch: int | None) -> np.ndarray:  # noqa: ANN401
    size = batch or len(values)
    padded = np.concatenate([values, np.repeat(values[-1:], -len(values) % size, axis=0)])
    try:
        parts = [
            session.run([output], {name: padded[start : start + size]})[0] for start in range(0, len(padded), size)
        ]
    except Exception as error:  # noqa: BLE001
        raise Invalid("bad-import", reason=_first_line("onnxruntime cannot run it", error)) from None
    return np.concatenate(parts)[: len(values)]


def _first_line(what: str, error: Exception) -> str:
    return f"{what}: {ascii((str(error).splitlines() or [''])[0])[1:-1][:120]}"
