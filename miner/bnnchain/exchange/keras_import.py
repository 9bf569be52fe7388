"""A user's own Larq network as a chain model, checked sum by sum and answer by answer against Larq itself.

The network is built again from the settings that :mod:`bnnchain.exchange.keras_config` has checked, then given the
file's weights: TensorFlow never deserialises the file's own description.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.exchange.assembly import Assembly, refuse
from bnnchain.exchange.extras import load_larq
from bnnchain.exchange.keras_config import KerasFile, KerasLayer, read_keras_file
from bnnchain.exchange.verification import papers_of, verify_answers, verify_thresholds
from bnnchain_kernels.errors import Invalid

if TYPE_CHECKING:
    from types import ModuleType

    import numpy.typing as npt

    from bnnchain.exchange.assembly import SignsOf
    from bnnchain.exchange.provenance import Provenance
    from bnnchain_kernels.evaluator import EvaluatorFactory
    from bnnchain_kernels.model import BoolArray, Model, UInt8Array

GREYS = 256


def import_keras(path: Path, factory: EvaluatorFactory, *, binary_input: bool = False) -> tuple[Model, Provenance]:
    """Return the model of a Larq ``.keras`` or ``.h5`` and its provenance.

    binary_input: the user states that the first layer, which has no input quantizer, is fed -1 and +1 alone.
    Raises :class:`~bnnchain_kernels.errors.Unavailable` without the extra ``train``, ``bad-import`` naming the layer.
    """
    content = read_keras_file(path)
    keras, larq = load_larq()
    try:
        network, built = _build(keras, larq, content)
        _load_weights(network, content)
    except (ValueError, KeyError, OSError, RuntimeError, TypeError, IndexError, AttributeError) as error:
        message = (str(error).splitlines() or [""])[0]
        reason = f"its layers do not fit each other or their weights: {ascii(message)[1:-1][:120]}"
        raise Invalid("bad-import", reason=reason) from None
    walk = _Walk(content, binary_input=binary_input)
    for layer, made in zip(content.layers, built, strict=True):
        walk.take(layer, made)
    model, checks = walk.assembly.finish()
    verify_thresholds(checks)
    thresholds = walk.assembly.thresholds

    def scores_of(images: UInt8Array) -> npt.NDArray[np.float32]:
        signs = images.astype(np.float32) * 2 - 1 if thresholds is None else images[..., None].astype(np.float32)
        scores: npt.NDArray[np.float32] = network.predict(signs, verbose=0)
        return scores

    verify_answers(model, thresholds, scores_of, factory, labels_only=walk.has_softmax)
    return model, papers_of(model, thresholds, content.papers)


def _build(keras: ModuleType, larq: ModuleType, content: KerasFile) -> tuple[Any, list[Any]]:
    built = [_make(keras, larq, layer) for layer in content.layers]
    if content.is_sequential:
        return keras.Sequential([keras.Input(content.input_shape), *built]), built
    images = value = keras.Input(content.input_shape)
    for made in built:
        value = made(value)
    return keras.Model(images, value), built


def _make(keras: ModuleType, larq: ModuleType, layer: KerasLayer) -> Any:  # noqa: ANN401  (a Keras layer)
    settings, kind = layer.settings, layer.kind
    if kind in {"QuantConv2D", "QuantDense"}:
        options = {
            "input_quantizer": "ste_sign" if settings["has_input_sign"] else None,
            "kernel_quantizer": "ste_sign",
            "kernel_constraint": "weight_clip",
            "use_bias": settings["use_bias"],
            "activation": "ste_sign" if settings["activation"] == "sign" else settings["activation"],
        }
        if kind == "QuantConv2D":
            return larq.layers.QuantConv2D(settings["filters"], 3, **options)
        return larq.layers.QuantDense(settings["units"], **options)
    if kind == "BatchNormalization":
        return keras.layers.BatchNormalization(**settings)
    if kind == "Activation":
        return keras.layers.Activation("ste_sign" if settings["activation"] == "sign" else settings["activation"])
    if kind == "Conv2D":
        return keras.layers.Conv2D(settings["filters"], 1, use_bias=settings["use_bias"])
    return {
        "MaxPooling2D": lambda: keras.layers.MaxPooling2D(2, 2),
        "Flatten": keras.layers.Flatten,
        "Dropout": lambda: keras.layers.Dropout(0.5),  # does nothing where nothing is trained
    }[kind]()


def _load_weights(network: Any, content: KerasFile) -> None:  # noqa: ANN401  (a Keras model)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / ("model.h5" if content.is_whole else "model.weights.h5")
        path.write_bytes(content.weights)
        network.load_weights(str(path))


class _Walk:
    """Gives the layers to an :class:`Assembly`, and keeps what lies between a layer's sums and their sign."""

    def __init__(self, content: KerasFile, *, binary_input: bool) -> None:
        self.assembly = Assembly()
        self.assembly.start(*content.input_shape)
        self.has_softmax = False
        self._binary_input = binary_input
        self._thermometer: Any = None
        self._between: list[Any] = []
        self._is_flat = False

    def take(self, layer: KerasLayer, made: Any) -> None:  # noqa: ANN401  (a Keras layer)
        if self.has_softmax:
            refuse(layer.name, "comes after the softmax")
        if layer.kind in {"QuantConv2D", "QuantDense"}:
            self._take_weighted(layer, made)
        elif layer.kind == "BatchNormalization":
            self._take_normalisation(layer, made)
        elif layer.kind == "MaxPooling2D":
            self.assembly.pool(layer.name)
        elif layer.kind == "Flatten":
            self._is_flat = True
        elif layer.kind == "Activation":
            self._activate(layer, made, layer.settings["activation"])
        elif layer.kind == "Conv2D":
            if self.assembly.has_layers or self._thermometer is not None or self.assembly.size[2] != 1:
                refuse(layer.name, "a float convolution; only a first one on grey input can be read")
            self._thermometer = made
            self.assembly.start(*self.assembly.size[:2], layer.settings["filters"])

    def _take_weighted(self, layer: KerasLayer, made: Any) -> None:  # noqa: ANN401
        is_first = not self.assembly.has_layers
        if layer.settings["has_input_sign"]:
            self._sign(layer, made.input_quantizer)
        elif is_first and self._binary_input and self._thermometer is None:
            self.assembly.state_binary()
        kernel, *bias = made.get_weights()
        kernel = np.where(np.isnan(kernel), kernel, np.asarray(made.kernel_quantizer(kernel)))
        if layer.kind == "QuantConv2D":
            self.assembly.conv(layer.name, kernel)
        elif not self._is_flat:
            refuse(layer.name, "a dense layer on an image that is not flattened")
        else:
            self.assembly.dense(layer.name, kernel)
        if bias:
            self.assembly.plus(layer.name, bias[0])
            shift = bias[0]
            self._between.append(lambda sums: sums + shift)
        self._activate(layer, made.activation, layer.settings["activation"])

    def _take_normalisation(self, layer: KerasLayer, made: Any) -> None:  # noqa: ANN401
        sides = (-1,) if self._is_flat else (-1, 1, 1)
        if layer.settings["axis"] not in {-1, len(sides)}:
            refuse(layer.name, "normalises rows, not channels")
        values = [np.asarray(each) for each in made.get_weights()]
        gamma = values.pop(0) if layer.settings["scale"] else np.ones(1)
        beta = values.pop(0) if layer.settings["center"] else np.zeros(1)
        mean, variance = values
        if not all(np.isfinite(each).all() for each in (gamma, beta, mean, variance)):
            refuse(layer.name, "parameters that are not finite")
        epsilon = float(np.float32(layer.settings["epsilon"]))
        if self.assembly.is_summing and len(mean) != self.assembly.size[2]:
            refuse(layer.name, "normalises after flattening, place by place")
        self.assembly.normalise(layer.name, gamma=gamma, beta=beta, mean=mean, variance=variance, epsilon=epsilon)
        self._between.append(lambda sums: made(np.reshape(sums, (*sides, len(mean))), training=False))

    def _activate(self, layer: KerasLayer, made: Any, activation: str) -> None:  # noqa: ANN401
        if activation == "sign":
            self._sign(layer, made)
        self.has_softmax = activation == "softmax"

    def _sign(self, layer: KerasLayer, quantizer: Any) -> None:  # noqa: ANN401
        between, self._between = self._between, []

        def signs_of(sums: npt.NDArray[np.float32]) -> BoolArray:
            value: Any = sums
            for step in between:
                value = step(value)
            return np.asarray(quantizer(value)).reshape(sums.shape) > 0

        if self._thermometer is not None and not self.assembly.has_layers:
            self.assembly.state_binary(self._read_thermometer(layer.name, signs_of))
        self.assembly.sign(layer.name, signs_of)

    def _read_thermometer(self, name: str, signs_of: SignsOf) -> tuple[int, ...]:
        """Return the grey value from which each plane is set, as the framework itself decides it."""
        greys = np.arange(GREYS, dtype=np.float32).reshape(GREYS, 1, 1, 1)
        planes = signs_of(np.asarray(self._thermometer(greys)).reshape(GREYS, -1))
        firsts = GREYS - np.count_nonzero(planes, axis=0)
        is_rising = (np.diff(planes.astype(np.int8), axis=0) >= 0).all()
        if not is_rising or firsts[0] < 1 or firsts[-1] >= GREYS or (np.diff(firsts) <= 0).any():
            refuse(name, "its planes are not set from rising grey values of 1 to 255")
        return tuple(int(first) for first in firsts)
