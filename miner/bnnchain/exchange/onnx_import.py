"""An ONNX export of a supported binary network as a chain model, checked against onnxruntime.

The graph is one chain from the images to the scores.  Where an axis stands is followed through every Transpose, so
exports with channels first and with channels last are both read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.exchange.assembly import Assembly, refuse
from bnnchain.exchange.extras import load_extra
from bnnchain.exchange.onnx_graph import OnnxFile, OnnxNode, fold_constant, read_onnx_file
from bnnchain.exchange.onnx_runs import Feed, probe_greys, run_model, signs_by_runtime
from bnnchain.exchange.verification import papers_of, verify_answers, verify_thresholds
from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.exchange.provenance import Provenance
    from bnnchain_kernels.evaluator import EvaluatorFactory
    from bnnchain_kernels.model import BoolArray, Model

CHANNELS_FIRST, CHANNELS_LAST = ("n", "c", "h", "w"), ("n", "h", "w", "c")
FLAT = ("n", "f")
MAX_BATCH_IMAGES = 1_024
SIGN_NUDGE_LIMIT = 1.0
"""Larq's sign as tf2onnx writes it is sign(sign(x) + 0.1): zero counts as +1."""
LABELS, PROBABILITIES, SCORES = "labels", "probabilities", "scores"


def import_onnx(path: Path, factory: EvaluatorFactory, *, binary_input: bool = False) -> tuple[Model, Provenance]:
    """Return the model of an ONNX file and its provenance.

    binary_input: the user states that float images are -1 and +1 alone.  Raises
    :class:`~bnnchain_kernels.errors.Unavailable` without the extra ``onnx``, ``bad-import`` naming the node.
    """
    content = read_onnx_file(path)
    load_extra("onnxruntime", "onnx")
    walk = _Walk(content, binary_input=binary_input)
    for node in content.nodes:
        walk.take(node)
    model, checks = walk.assembly.finish()
    output = next((name for name in content.outputs if walk.ends.get(name) == SCORES), None)
    output = output or next((name for name in content.outputs if name in walk.ends), None)
    if output is None or walk.feed is None:
        raise Invalid("bad-import", reason="the last layer's scores reach no output")
    verify_thresholds(checks)
    feed, end = walk.feed, walk.ends[output]

    def scores_of(images: np.ndarray) -> np.ndarray:
        answers = run_model(content, feed, images, output)
        return np.eye(model.architecture.classes)[answers.ravel()] if end == LABELS else answers

    verify_answers(model, walk.assembly.thresholds, scores_of, factory, labels_only=end != SCORES)
    return model, papers_of(model, walk.assembly.thresholds, content.papers)


class _Walk:
    """Gives the nodes to an :class:`Assembly`; ``axes`` name the sides of the value at this place."""

    def __init__(self, content: OnnxFile, *, binary_input: bool) -> None:
        self.assembly = Assembly()
        self.ends: dict[str, str] = {}
        """Outputs that the last sums reach, and as what."""
        self.feed: Feed | None = None
        self._onnx = load_extra("onnx", "onnx")
        self._content = content
        self._binary_input = binary_input
        self._constants = dict(content.constants)
        self._value = content.input_name
        rank = len(content.input_shape)
        if rank not in (3, 4) or any(side is None or side < 1 for side in content.input_shape[1:]):
            raise Invalid("bad-import", reason="the input is not (batch, sides) of fixed sides", rank=rank)
        if (content.input_shape[0] or 0) > MAX_BATCH_IMAGES:
            raise Invalid("bad-import", reason="a fixed batch too large", limit=MAX_BATCH_IMAGES)
        # Sides are numbered until the first layer tells which of them are height, width and channels.
        self._sides = [str(index) for index in range(rank)]
        self._axes: tuple[str, ...] | None = None
        self._input_axes: tuple[str, ...] = ()
        self._names: dict[str, str] = {}
        self._flat_order = CHANNELS_LAST[1:]
        self._before: list[OnnxNode] = []
        self._input_sign: tuple[OnnxNode, list[str]] | None = None
        """The last node before the first layer that makes signs, and the sides of its value."""
        self._between: list[tuple[OnnxNode, list[np.ndarray]]] = []
        self._compare: OnnxNode | None = None
        self._pending_sign: OnnxNode | None = None

    def take(self, node: OnnxNode) -> None:
        given = [name for name in node.inputs if name and name not in self._constants]
        if not given:
            folded = fold_constant(self._onnx, node, [self._constants[name] for name in node.inputs if name])
            if folded is None:
                refuse(node.name, "computes on constants what is not computed here")
            self._constants[node.outputs[0]] = folded
            return
        if set(given) <= set(self.ends):
            self._end(node, given[0])
            return
        if given != [self._value]:
            refuse(node.name, "takes something else than the output of the node before it")
        if self._pending_sign is not None and node.kind not in {"Add", "Sign"}:
            self._close_sign([])
        handler = getattr(self, f"_{node.kind.lower()}", None)
        if handler is None or node.kind not in _KINDS:
            refuse(node.name, "is no part of a chain model")
        if not self.assembly.has_layers:
            self._before.append(node)
        handler(node)
        self._value = node.outputs[0]
        if node.outputs[0] in self._content.outputs or self._reaches_end(node):
            self.ends[node.outputs[0]] = SCORES

    # Where the value stops being part of the chain of layers.

    def _reaches_end(self, node: OnnxNode) -> bool:
        """Answer whether several nodes, or one that ends the chain, take this node's output."""
        takers = [each for each in self._content.nodes if node.outputs[0] in each.inputs]
        if not self.assembly.is_summing or not takers:
            return False
        outputs = set(self._content.outputs)
        return all(
            each.kind in {"ArgMax", "Softmax"} or (each.kind in {"Cast", "Identity"} and set(each.outputs) <= outputs)
            for each in takers
        )

    def _end(self, node: OnnxNode, source: str) -> None:
        kind = self.ends[source]
        if node.kind in {"Cast", "Identity"}:
            self.ends[node.outputs[0]] = kind
        elif node.kind == "Softmax" and kind == SCORES:
            self.ends[node.outputs[0]] = PROBABILITIES
        elif node.kind == "ArgMax" and not node.attributes.get("select_last_index", 0):
            self.ends[node.outputs[0]] = LABELS
        else:
            refuse(node.name, "is no part of a chain model after its scores")

    # Layers.

    def _conv(self, node: OnnxNode) -> None:
        self._settle(node, CHANNELS_FIRST)
        plain = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "group": 1}
        self._want(node, plain)
        if node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            refuse(node.name, "pads its input; a chain model's convolutions are valid ones")
        kernel = self._constant(node, 1)
        if kernel.ndim != 4:  # noqa: PLR2004  (out, in, y, x)
            refuse(node.name, "is not a convolution of images")
        if not self.assembly.has_layers and self._input_sign is None and kernel.shape[1:] == (1, 1, 1):
            return  # makes planes of grey values, which are found by running it
        self._start_layer()
        self.assembly.conv(node.name, kernel.transpose(2, 3, 1, 0))
        self._add_bias(node)

    def _gemm(self, node: OnnxNode) -> None:
        self._want(node, {"transA": 0, "alpha": 1.0, "beta": 1.0})
        kernel = self._constant(node, 1)
        self._dense(node, kernel.T if node.attributes.get("transB", 0) else kernel)
        self._add_bias(node)

    def _matmul(self, node: OnnxNode) -> None:
        self._dense(node, self._constant(node, 1))

    def _dense(self, node: OnnxNode, kernel: np.ndarray) -> None:
        if self._axes != FLAT or kernel.ndim != 2:  # noqa: PLR2004  (in, out)
            refuse(node.name, "multiplies what is not flat")
        self._start_layer()
        height, width, channels = self.assembly.size
        if self._flat_order == CHANNELS_FIRST[1:] and len(kernel) == height * width * channels:
            kernel = kernel.reshape(channels, height, width, -1).transpose(1, 2, 0, 3).reshape(kernel.shape)
        self._flat_order = CHANNELS_LAST[1:]
        self.assembly.dense(node.name, kernel)

    def _start_layer(self) -> None:
        if self.assembly.has_layers:
            return
        if self._input_sign is not None:
            self._read_input(*self._input_sign)
        elif self._binary_input:
            self.assembly.state_binary()
            self.feed = self._make_feed(signs=True)

    def _add_bias(self, node: OnnxNode) -> None:
        if len(node.inputs) > 2 and node.inputs[2]:  # noqa: PLR2004
            bias = self._constant(node, 2)
            self.assembly.plus(node.name, bias)
            self._between.append((OnnxNode("Add", node.name, ("", "bias"), (), {}), [bias.ravel()]))

    def _maxpool(self, node: OnnxNode) -> None:
        self._settle(node, CHANNELS_FIRST)
        plain = {"kernel_shape": [2, 2], "strides": [2, 2], "dilations": [1, 1], "pads": [0, 0, 0, 0], "ceil_mode": 0}
        if "strides" not in node.attributes:
            refuse(node.name, "has stride 1, a chain model's pools have 2")
        self._want(node, plain)
        if node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or len(node.outputs) > 1:
            refuse(node.name, "pads its input or gives indices")
        self.assembly.pool(node.name)

    # Between a layer and its sign.

    def _add(self, node: OnnxNode) -> None:
        number = self._other(node)
        if self._pending_sign is not None:
            # Sign, Add a nudge below 1, Sign: zero is +1.
            if number.size != 1 or not 0 < float(number.ravel()[0]) < SIGN_NUDGE_LIMIT:
                refuse(node.name, "adds to signs")
            self._between.append((node, [number.ravel()]))
            return
        self._shift(node, number, 1)

    def _sub(self, node: OnnxNode) -> None:
        if node.inputs[0] in self._constants:
            refuse(node.name, "subtracts the value from a constant")
        self._shift(node, self._other(node), -1)

    def _shift(self, node: OnnxNode, number: np.ndarray, sign: int) -> None:
        if not self.assembly.has_layers:
            return
        numbers = self._per_channel(node, number)
        self.assembly.plus(node.name, sign * numbers.astype(np.float64))
        self._between.append((node, [numbers]))

    def _mul(self, node: OnnxNode) -> None:
        if not self.assembly.has_layers:
            return
        numbers = self._per_channel(node, self._other(node))
        self.assembly.times(node.name, numbers)
        self._between.append((node, [numbers]))

    def _batchnormalization(self, node: OnnxNode) -> None:
        if node.attributes.get("training_mode", 0):
            refuse(node.name, "is in training")
        if not self.assembly.has_layers:
            refuse(node.name, "normalises the input")
        if self._axes is not None and self._axes.index("c" if "c" in self._axes else "f") != 1:
            refuse(node.name, "normalises another axis than the channels")
        gamma, beta, mean, variance = (self._constant(node, index) for index in range(1, 5))
        values = [gamma, beta, mean, variance]
        if any(each.shape != (self.assembly.size[2],) or not np.isfinite(each).all() for each in values):
            refuse(node.name, "parameters that are not one finite number a neuron")
        epsilon = float(np.float32(node.attributes.get("epsilon", 1e-5)))
        self.assembly.normalise(node.name, gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=epsilon)
        self._between.append((node, values))

    # Signs.

    def _sign(self, node: OnnxNode) -> None:
        if self._pending_sign is not None and self._between and self._between[-1][0].kind == "Add":
            self._close_sign([(node, [])])
        elif self.assembly.is_summing:
            self._pending_sign = node
            self._between.append((node, []))
        elif not self.assembly.has_layers:
            self._input_sign = (node, list(self._axes or self._sides))

    def _close_sign(self, last: list[tuple[OnnxNode, list[np.ndarray]]]) -> None:
        node, self._pending_sign = self._pending_sign, None
        steps, self._between = [*self._between, *last], []
        if node is None:
            return
        if not last and steps[-1][0].kind == "Add":
            refuse(node.name, "is shifted and not a sign again")
        self.assembly.sign(node.name, signs_by_runtime(self._content.opset, steps), zero_is_bit=bool(last))

    def _greaterorequal(self, node: OnnxNode) -> None:
        if node.inputs[0] in self._constants or self._compare is not None:
            refuse(node.name, "compares a constant with the value, or twice")
        if self.assembly.has_layers:
            numbers = self._per_channel(node, self._other(node))
            self.assembly.plus(node.name, -numbers.astype(np.float64))
            self._between.append((node, [numbers]))
        self._compare = node

    _greater = _greaterorequal

    def _where(self, node: OnnxNode) -> None:
        compare, self._compare = self._compare, None
        if compare is None or node.inputs[0] != self._value:
            refuse(node.name, "chooses by something else than a comparison")
        high, low = self._constant(node, 1), self._constant(node, 2)
        if high.size != 1 or low.size != 1 or (high.item(), low.item()) != (1, -1):
            refuse(node.name, "does not choose between 1 and -1")
        if not self.assembly.has_layers:
            self._input_sign = (node, list(self._axes or self._sides))
            return
        steps, self._between = [*self._between, (node, [high.ravel(), low.ravel()])], []
        signs = signs_by_runtime(self._content.opset, steps)
        self.assembly.sign(node.name, signs, is_strict=compare.kind == "Greater")

    # Shapes.

    def _transpose(self, node: OnnxNode) -> None:
        order = node.attributes.get("perm", [])
        current = self._axes or tuple(self._sides)
        if sorted(order) != list(range(len(current))) or order[0] != 0:
            refuse(node.name, "moves the batch")
        moved = [current[index] for index in order]
        if self._axes is None:
            self._sides = moved
        else:
            self._axes = tuple(moved)

    def _unsqueeze(self, node: OnnxNode) -> None:
        axes = self._constant(node, 1).ravel().tolist() if len(node.inputs) > 1 else node.attributes.get("axes", [])
        if self._axes is not None or len(self._sides) != 3 or len(axes) != 1 or axes[0] not in (1, 3, -1):  # noqa: PLR2004
            refuse(node.name, "adds an axis that is not the channels'")
        self._sides.insert(3 if axes[0] == -1 else axes[0], "new")

    def _flatten(self, node: OnnxNode) -> None:
        if node.attributes.get("axis", 1) != 1:
            refuse(node.name, "flattens the batch too")
        if self._axes is None:
            is_last = self._content.producer.startswith("tf2onnx") and self._sides == list("0123")
            self._settle(node, CHANNELS_LAST if is_last else CHANNELS_FIRST)
        if self._axes != FLAT and self._axes is not None:
            self._flat_order = (self._axes[1], self._axes[2], self._axes[3])
            self._axes = FLAT

    def _reshape(self, node: OnnxNode) -> None:
        shape = self._constant(node, 1).ravel().tolist()
        if len(shape) > 2:  # noqa: PLR2004
            self._rearrange(node, shape)
            return
        self._flatten(OnnxNode("Flatten", node.name, node.inputs, node.outputs, {}))
        if len(shape) != 2 or shape[1] not in (-1, int(np.prod(self.assembly.size))):  # noqa: PLR2004
            refuse(node.name, "reshapes across images")

    def _rearrange(self, node: OnnxNode, shape: list[int]) -> None:
        """Follow a Reshape that moves sides of length 1 alone: tf2onnx writes such transposes so."""
        if self._axes is None:
            names = self._sides
            lengths = dict(zip(names, self._content.input_shape, strict=False)) if "new" not in names else {}
        else:
            names = ["n", *self._flat_order] if self._axes == FLAT else list(self._axes)
            lengths = dict(zip(("h", "w", "c"), self.assembly.size, strict=True))
        sides = [lengths.get(name) or 0 for name in names[1:]]
        wanted = [sides[index] if side == 0 and index < len(sides) else side for index, side in enumerate(shape[1:])]
        if wanted.count(-1) == 1 and shape[0] != -1:
            rest = int(np.prod([side for side in wanted if side != -1]))
            wanted = [int(np.prod(sides)) // max(1, rest) if side == -1 else side for side in wanted]
        if len(wanted) != len(sides) or [side for side in wanted if side != 1] != [side for side in sides if side != 1]:
            refuse(node.name, "reshapes otherwise than by moving sides of 1")
        long = iter([name for name, side in zip(names[1:], sides, strict=True) if side != 1])
        short = iter([name for name, side in zip(names[1:], sides, strict=True) if side == 1])
        moved = [names[0], *(next(short if side == 1 else long) for side in wanted)]
        if self._axes is None:
            self._sides = moved
        else:
            self._axes = tuple(moved)

    def _cast(self, node: OnnxNode) -> None:
        to = node.attributes["to"]
        if self.assembly.has_layers and to != self._onnx.TensorProto.FLOAT:
            refuse(node.name, "leaves the floats")

    def _identity(self, _node: OnnxNode) -> None:
        return

    _dropout = _identity

    # The input.

    def _settle(self, node: OnnxNode, axes: tuple[str, ...]) -> None:
        """Say what the sides are, the first time that a node tells; later, check that they are where they must be."""
        if self._axes is None:
            if len(self._sides) != len(axes):
                refuse(node.name, "the image has no channels here")
            self._axes = axes
            names = self._names = dict(zip(self._sides, axes, strict=True))
            shape = self._content.input_shape
            self._input_axes = tuple(names[str(index)] for index in range(len(shape)))
            lengths = {axis: side or 0 for axis, side in zip(self._input_axes, shape, strict=True)}
            self.assembly.start(lengths["h"], lengths["w"], lengths.get("c", 1))
        if self._axes != axes:
            refuse(node.name, "the channels are not where this node takes them")

    def _make_feed(self, *, signs: bool) -> Feed:
        return Feed(self._input_axes, self._content.input_dtype, self._content.input_shape[0], is_signs=signs)

    def _read_input(self, node: OnnxNode, sides: list[str]) -> None:
        """Find out from which grey value each plane is set, by running what stands before the first layer."""
        self.feed = self._make_feed(signs=not self._changes_input())
        if self.feed.is_signs:
            self.assembly.state_binary()
            return
        height, width, channels = self.assembly.size
        bits = self._probe(node, sides)
        firsts = len(bits) - np.count_nonzero(bits, axis=0)
        is_rising = (np.diff(bits.astype(np.int8), axis=0) >= 0).all()
        if channels > 1 and is_rising and (firsts == 1).all():
            self.assembly.state_binary()
        elif channels == 1 and is_rising and firsts[0] >= 1 and firsts[-1] < len(bits) and (np.diff(firsts) > 0).all():
            is_bits = firsts.tolist() == [1] and "c" in self._input_axes
            self.assembly.start(height, width, len(firsts))
            self.assembly.state_binary(None if is_bits else tuple(firsts.tolist()))
        else:
            refuse(node.name, "its planes are not set from rising grey values of 1 to 255")
        self.feed.is_grey = self.assembly.thresholds is not None

    def _changes_input(self) -> bool:
        """Answer whether the first sign is of something else than the input itself, whose bits then are no signs."""
        for node in self._before:
            if node.kind == "Sign":
                return False
            if node.kind in {"GreaterOrEqual", "Greater"}:
                return bool(self._other(node).any())
            if node.kind in {"Add", "Sub", "Mul", "Conv"}:
                return True
        return False

    def _probe(self, node: OnnxNode, sides: list[str]) -> BoolArray:
        """Return ``bool[256, planes]``: which planes are set for each grey value; refuse what depends on the place."""
        height, width, channels = self.assembly.size
        parts = probe_greys(self._content, node.outputs[0], self._make_feed(signs=False), self.assembly.size)
        found = []
        for part in parts:
            values = part
            if tuple(sides) == FLAT:
                lengths = {"h": height, "w": width, "c": channels}
                values = values.reshape(len(values), *(lengths[axis] for axis in self._flat_order))
                place = 1 + self._flat_order.index("c")
            else:
                place = next((index for index, side in enumerate(sides) if self._names.get(side, side) == "c"), 0)
            if not place or not np.isin(values, (-1, 1)).all():
                refuse(node.name, "makes values that are no signs, or has no channels")
            planes = np.moveaxis(values, place, -1) > 0
            if not (planes == planes[:, :1, :1]).all():
                refuse(node.name, "makes other bits of equal grey values")
            found.append(planes[:, 0, 0])
        return np.concatenate(found)

    # Reading a node.

    def _constant(self, node: OnnxNode, index: int) -> np.ndarray:
        name = node.inputs[index] if index < len(node.inputs) else ""
        if name not in self._constants:
            refuse(node.name, "its parameters are not constants")
        return self._constants[name]

    def _other(self, node: OnnxNode) -> np.ndarray:
        return self._constant(node, 1 if node.inputs[0] == self._value else 0)

    def _per_channel(self, node: OnnxNode, number: np.ndarray) -> np.ndarray:
        """Return a constant as one number or one a neuron; refuse one that varies over places."""
        axes = self._axes or CHANNELS_FIRST
        place = axes.index("c") if "c" in axes else 1
        sides = [1] * (len(axes) - number.ndim) + list(number.shape)
        if len(sides) != len(axes) or any(side != 1 for index, side in enumerate(sides) if index != place):
            refuse(node.name, "its constant is not one number, nor one for each neuron")
        return number.ravel()

    def _want(self, node: OnnxNode, settings: dict[str, Any]) -> None:
        for setting, wanted in settings.items():
            found = node.attributes.get(setting, wanted)
            found = list(found) if isinstance(found, list | tuple) else found
            if found != wanted:
                refuse(node.name, f"{setting} is {ascii(found)[:40]}, a chain model has {wanted}")


_KINDS = {
    *("Conv", "Gemm", "MatMul", "MaxPool", "Add", "Sub", "Mul", "BatchNormalization", "Sign", "GreaterOrEqual"),
    *("Greater", "Where", "Transpose", "Unsqueeze", "Flatten", "Reshape", "Cast", "Identity", "Dropout"),
}
