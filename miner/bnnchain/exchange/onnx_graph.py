"""An ONNX file as a checked list of nodes and constants; nothing of it runs here but a few operators on constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.exchange.assembly import refuse
from bnnchain.exchange.extras import load_extra
from bnnchain.exchange.files import read_file
from bnnchain.exchange.provenance import METADATA_KEY
from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

MAX_FILE_BYTES = 128 << 20
MAX_NODES = 1_024
MAX_CONSTANTS = 4_096
MAX_ELEMENTS = 1 << 24
"""Of all constants together, computed ones included."""
DOMAINS = {"", "ai.onnx"}


@dataclass(frozen=True, slots=True, eq=False)
class OnnxNode:
    """A node whose attributes are plain values."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class OnnxFile:
    """What a file holds; ``input_shape`` has None where a side is not fixed."""

    data: bytes
    producer: str
    opset: int
    input_name: str
    input_shape: tuple[int | None, ...]
    input_dtype: np.dtype[Any]
    outputs: tuple[str, ...]
    nodes: tuple[OnnxNode, ...]
    constants: dict[str, np.ndarray]
    papers: str | None


def read_onnx_file(path: Path) -> OnnxFile:
    """Return the checked content; raises :class:`Invalid` ``bad-import`` or :class:`Unavailable` without the extra."""
    onnx = load_extra("onnx", "onnx")
    data = read_file(path, MAX_FILE_BYTES)
    try:
        proto = onnx.load_model_from_string(data)
        _validate_text(proto)
        _validate_limits(onnx, proto)
        onnx.checker.check_model(proto)
        return _read(onnx, proto, data)
    except (onnx.checker.ValidationError, ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
        message = (str(error).splitlines() or [""])[0]
        raise Invalid("bad-import", reason=f"not an ONNX model: {ascii(message)[1:-1][:120]}") from None
    except Exception as error:  # protobuf's own DecodeError has no stable home
        if type(error).__name__ != "DecodeError":
            raise
        raise Invalid("bad-import", reason="not an ONNX model: its bytes cannot be read") from None


def _validate_text(message: Any) -> None:  # noqa: ANN401  (any part of a ModelProto)
    # Some protobuf runtimes hand out as bytes what a file calls text and is not UTF-8.
    for field, value in message.ListFields():
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        for each in [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value:
            if isinstance(each, bytes):
                raise Invalid("bad-import", reason="a text that is not UTF-8", field=field.name)
            if not isinstance(each, str):
                _validate_text(each)


def _validate_limits(onnx: ModuleType, proto: Any) -> None:  # noqa: ANN401  (a ModelProto)
    graph = proto.graph
    if len(graph.node) > MAX_NODES or len(graph.initializer) > MAX_CONSTANTS or len(proto.functions):
        raise Invalid("bad-import", reason="too many nodes or constants, or functions", nodes=len(graph.node))
    if len(graph.sparse_initializer):
        raise Invalid("bad-import", reason="sparse constants")
    tensors = list(graph.initializer)
    for node in graph.node:
        if node.domain not in DOMAINS:
            refuse(node.name or node.op_type, f"operator of another domain: {ascii(node.domain)[1:-1][:40]}")
        for attribute in node.attribute:
            if attribute.type not in (1, 2, 3, 4, 6, 7, 8):  # numbers, texts, one tensor, and lists of the former
                refuse(node.name or node.op_type, "an attribute that is a graph or a list of tensors")
            if attribute.type == onnx.AttributeProto.TENSOR:
                tensors.append(attribute.t)
    elements = 0
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data):
            raise Invalid("bad-import", reason="data outside the file", tensor=ascii(tensor.name)[1:-1][:40])
        if any(side < 0 for side in tensor.dims):
            raise Invalid("bad-import", reason="a negative side", tensor=ascii(tensor.name)[1:-1][:40])
        count = 1
        for side in tensor.dims:
            count *= side
        elements += count
        if elements > MAX_ELEMENTS:
            raise Invalid("bad-import", reason="too many constants", limit=MAX_ELEMENTS)


def _read(onnx: ModuleType, proto: Any, data: bytes) -> OnnxFile:  # noqa: ANN401  (a ModelProto)
    graph = proto.graph
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    if len(inputs) != 1:
        raise Invalid("bad-import", reason="not one input", inputs=len(inputs))
    kind = inputs[0].type.tensor_type
    shape = tuple(side.dim_value if side.HasField("dim_value") else None for side in kind.shape.dim)
    opset = max((each.version for each in proto.opset_import if each.domain in DOMAINS), default=0)
    return OnnxFile(
        data=data,
        producer=proto.producer_name,
        opset=opset,
        input_name=inputs[0].name,
        input_shape=shape,
        input_dtype=np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)),
        outputs=tuple(each.name for each in graph.output),
        nodes=tuple(_node(onnx, each) for each in graph.node),
        constants=constants,
        papers=next((each.value for each in proto.metadata_props if each.key == METADATA_KEY), None),
    )


def _node(onnx: ModuleType, node: Any) -> OnnxNode:  # noqa: ANN401  (a NodeProto)
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    name = node.name or (node.output[0] if node.output else node.op_type)
    return OnnxNode(node.op_type, f"{node.op_type} {name}", tuple(node.input), tuple(node.output), attributes)


def fold_constant(onnx: ModuleType, node: OnnxNode, inputs: list[np.ndarray]) -> np.ndarray | None:
    """Return what a node of constants gives, or None where it is not one of the few that are computed here.

    Raises :class:`Invalid` ``bad-import`` where its inputs or attributes do not fit it.
    """
    try:
        with np.errstate(all="ignore"):  # what is no number is refused where it is used
            return _fold(onnx, node, inputs)
    except (ValueError, TypeError, IndexError, KeyError) as error:
        refuse(node.name, f"computes on constants that do not fit it ({type(error).__name__})")


def _fold(onnx: ModuleType, node: OnnxNode, inputs: list[np.ndarray]) -> np.ndarray | None:
    if node.kind == "Constant":
        return _constant(onnx, node)
    if node.kind == "Cast":
        return inputs[0].astype(onnx.helper.tensor_dtype_to_np_dtype(node.attributes["to"]))
    if node.kind == "Transpose":
        return np.transpose(inputs[0], node.attributes.get("perm"))
    if node.kind == "Reshape":
        return inputs[0].reshape(_shape(inputs[1], inputs[0].shape))
    function = _ON_CONSTANTS.get(node.kind)
    if function is None:
        return None
    result = function(*inputs)
    return result if result.size <= MAX_ELEMENTS else None


def _constant(onnx: ModuleType, node: OnnxNode) -> np.ndarray | None:
    if "value" in node.attributes:
        return np.asarray(onnx.numpy_helper.to_array(node.attributes["value"]))
    for name, dtype in (("value_float", np.float32), ("value_floats", np.float32)):
        if name in node.attributes:
            return np.asarray(node.attributes[name], dtype)
    for name in ("value_int", "value_ints"):
        if name in node.attributes:
            return np.asarray(node.attributes[name], np.int64)
    return None


def _shape(wanted: np.ndarray, given: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(given[index] if side == 0 else int(side) for index, side in enumerate(wanted.ravel().tolist()))


def _broadcast(operate: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def checked(*inputs: np.ndarray) -> np.ndarray:
        if np.prod(np.broadcast_shapes(*(each.shape for each in inputs)), dtype=np.float64) > MAX_ELEMENTS:
            raise Invalid("bad-import", reason="too many constants", limit=MAX_ELEMENTS)
        return operate(*inputs)

    return checked


_ON_CONSTANTS: dict[str, Callable[..., np.ndarray]] = {
    "Identity": lambda value: value,
    "Sign": np.sign,
    "Neg": np.negative,
    "Add": _broadcast(np.add),
    "Sub": _broadcast(np.subtract),
    "Mul": _broadcast(np.multiply),
    "GreaterOrEqual": _broadcast(np.greater_equal),
    "Greater": _broadcast(np.greater),
    "Where": _broadcast(np.where),
}
