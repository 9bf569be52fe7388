"""A model as a Larq network in Keras, and as a Larq Compute Engine .tflite; both equal the kernel in every score.

Normalisation carries the thresholds: mean 0 and variance + epsilon = 1, so what it adds is its shift, an integer of the
other parity than the sum.  Rounding would have to move it by a whole unit to change a sign.
"""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain.exchange.extras import load_compute_engine, load_extra, load_larq
from bnnchain.exchange.floats import FloatLayer, float_layers
from bnnchain.exchange.provenance import METADATA_KEY, validate_thresholds
from bnnchain_kernels.errors import Fault, Invalid

if TYPE_CHECKING:
    from bnnchain.exchange.provenance import Provenance
    from bnnchain_kernels.model import Architecture, Model

EPSILON = 1e-3
"""Keras' own: with an epsilon of 0, training the model further could divide by nothing."""
THERMOMETER = "thermometer"
SUFFIXES = (".keras", ".h5")
PAPERS_ENTRY = "bnnchain.json"


def export_keras(model: Model, provenance: Provenance, thresholds: tuple[int, ...] | None, path: Path) -> None:
    """Write a Larq model as ``.keras`` or ``.h5``; its labels are the argmax of its output.

    With ``thresholds`` it takes grey values ``(batch, height, width, 1)`` of 0 to 255, without them -1 and +1 of
    ``(batch, height, width, planes)``.  Raises :class:`~bnnchain_kernels.errors.Unavailable` without the extra.
    """
    if path.suffix not in SUFFIXES:
        raise Invalid("bad-export", reason="a Keras model's file ends in .keras or .h5", file=path)
    network = build_larq(model, thresholds, None)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You are saving your model as an HDF5 file")
            network.save(str(path), save_format="keras" if path.suffix == ".keras" else "h5")
        if path.suffix == ".keras":
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr(PAPERS_ENTRY, provenance.to_json())
        else:
            with load_extra("h5py", "train").File(path, "a") as file:
                file.attrs[METADATA_KEY] = provenance.to_json()
    except OSError as error:
        raise Fault(f"cannot write {path}: {error}") from error


def export_tflite(model: Model, provenance: Provenance, thresholds: tuple[int, ...] | None) -> bytes:
    """Return the model converted by Larq Compute Engine, its input and output those of :func:`export_keras`.

    The batch is 1; the provenance is the metadata buffer ``bnnchain``.  Raises
    :class:`~bnnchain_kernels.errors.Unavailable` without the extra ``tflite``.
    """
    engine = load_compute_engine()
    converted = engine.convert_keras_model(build_larq(model, thresholds, 1))
    return _with_metadata(bytes(converted), provenance)


def build_larq(model: Model, thresholds: tuple[int, ...] | None, batch: int | None) -> Any:  # noqa: ANN401
    """Return the model as a ``tf_keras.Model`` of Larq layers."""
    validate_thresholds(thresholds, model.architecture)
    keras, larq = load_larq()
    images, value = _read_input(keras, model.architecture, thresholds, batch)
    layers, was_conv = float_layers(model), True
    for index, layer in enumerate(layers):
        options: dict[str, object] = {"kernel_quantizer": "ste_sign", "kernel_constraint": "weight_clip"}
        options["name"] = f"layer_{index}"
        if index or thresholds is not None:
            options["input_quantizer"] = "ste_sign"
        if was_conv and not layer.is_conv:
            value = keras.layers.Flatten(name="flatten")(value)
        value = _add_layer(keras, larq, value, layer, options, is_last=layer is layers[-1])
        was_conv = layer.is_conv
    return keras.Model(images, value, name="bnn")


def _read_input(
    keras: Any,  # noqa: ANN401
    shape: Architecture,
    thresholds: tuple[int, ...] | None,
    batch: int | None,
) -> tuple[Any, Any]:
    """Return (input, value): grey values go through a fixed 1x1 convolution, pixel - (threshold - 1/2) a plane."""
    planes = shape.planes if thresholds is None else 1
    images = keras.Input((shape.height, shape.width, planes), batch_size=batch, name="images")
    if thresholds is None:
        return images, images
    thermometer = keras.layers.Conv2D(shape.planes, 1, name=THERMOMETER, trainable=False)
    value = thermometer(images)
    levels = np.array(thresholds, np.float32) - np.float32(0.5)
    thermometer.set_weights([np.ones((1, 1, 1, shape.planes), np.float32), -levels])
    return images, value


def _add_layer(
    keras: Any,  # noqa: ANN401
    larq: Any,  # noqa: ANN401
    value: Any,  # noqa: ANN401
    layer: FloatLayer,
    options: dict[str, object],
    *,
    is_last: bool,
) -> Any:  # noqa: ANN401
    channels, added = layer.place.out_channels, layer.added.astype(np.float32)
    has_bias = is_last and bool(added.any())
    if layer.is_conv:
        made = larq.layers.QuantConv2D(channels, 3, padding="valid", use_bias=False, **options)
    else:
        made = larq.layers.QuantDense(channels, use_bias=has_bias, **options)
    value = made(value)
    made.set_weights([layer.weights.astype(np.float32), *([added] if has_bias else [])])
    if layer.is_pooled:
        value = keras.layers.MaxPool2D(2, 2, name=f"{options['name']}_pool")(value)
    if not is_last:
        normal = keras.layers.BatchNormalization(scale=False, epsilon=EPSILON, name=f"{options['name']}_norm")
        value = normal(value)
        normal.set_weights([added, np.zeros_like(added), np.full_like(added, 1 - EPSILON)])
    return value


def _with_metadata(content: bytes, provenance: Provenance) -> bytes:
    tools = load_extra("tensorflow.lite.tools.flatbuffer_utils", "train")
    schema = load_extra("tensorflow.lite.python.schema_py_generated", "train")
    model = tools.convert_bytearray_to_object(bytearray(content))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(provenance.to_json().encode(), np.uint8)
    entry.name, entry.buffer = METADATA_KEY, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    model.description = "; ".join(provenance.lines())
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.tflite"
        tools.write_model(model, str(path))
        return path.read_bytes()
