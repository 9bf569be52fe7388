"""A Keras file as plain data: its layers' settings, each checked, and its weights file, looked through before use.

Nothing in the file is turned into an object by name: a Lambda or a class of another module cannot run because nobody
looks it up.  What a chain model cannot be is refused here already, without TensorFlow.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from bnnchain.exchange.assembly import refuse
from bnnchain.exchange.extras import load_extra
from bnnchain.exchange.files import read_file
from bnnchain.exchange.keras_export import PAPERS_ENTRY
from bnnchain.exchange.provenance import MAX_JSON_BYTES, METADATA_KEY
from bnnchain_kernels.errors import Invalid
from bnnchain_kernels.model import MAX_CHANNELS, MAX_LAYERS, MAX_PLANES, MAX_SIDE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_FILE_BYTES = 128 << 20
MAX_CONFIG_BYTES = 1 << 20
MAX_ENTRIES = 16
MAX_OBJECTS = 4_096
MAX_PARAMETERS = 1 << 24
"""Twice the weights that fit a block, as floats 64 MiB."""
MAX_KERAS_LAYERS = 8 * MAX_LAYERS
WEIGHTS_ENTRY, CONFIG_ENTRY = "model.weights.h5", "config.json"

SIGNS = {"ste_sign", "SteSign", "approx_sign", "ApproxSign", "swish_sign", "SwishSign"}
"""Quantizers whose forward pass is the sign; they differ in the gradient alone."""


@dataclass(frozen=True, slots=True)
class KerasLayer:
    """One layer with the settings that matter."""

    kind: str
    name: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KerasFile:
    """What a file holds."""

    is_sequential: bool
    input_shape: tuple[int, int, int]
    layers: tuple[KerasLayer, ...]
    weights: bytes
    """An HDF5 file: the whole ``.h5``, or the ``.keras``'s ``model.weights.h5``."""
    is_whole: bool
    """Whether ``weights`` is a whole ``.h5``."""
    papers: str | None


def read_keras_file(path: Path) -> KerasFile:
    """Return the checked content of a ``.keras`` or ``.h5``; raises :class:`Invalid` ``bad-import``."""
    data = read_file(path, MAX_FILE_BYTES)
    if path.suffix == ".keras":
        config, weights, papers = _read_archive(data)
        _validate_hdf5(weights)
    else:
        weights = data
        config, papers = _validate_hdf5(weights)
    try:
        parsed = json.loads(config)
        is_sequential, rows = parsed["class_name"] == "Sequential", parsed["config"]["layers"]
        if parsed["class_name"] not in {"Sequential", "Functional", "Model"} or not isinstance(rows, list):
            raise Invalid("bad-import", reason=f"not a Sequential or Functional model: {parsed['class_name']!a}")
        if len(rows) > MAX_KERAS_LAYERS:
            raise Invalid("bad-import", reason="too many layers", layers=len(rows), limit=MAX_KERAS_LAYERS)
        if not is_sequential:
            _validate_chain(rows)
        shape, layers = _read_layers(rows)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, RecursionError) as error:
        raise Invalid(
            "bad-import", reason=f"a configuration that Larq does not write: {type(error).__name__}"
        ) from None
    _validate_size(shape, layers)
    return KerasFile(is_sequential, shape, layers, weights, path.suffix != ".keras", papers)


def _read_archive(data: bytes) -> tuple[str, bytes, str | None]:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
            if len(archive.infolist()) > MAX_ENTRIES or not {CONFIG_ENTRY, WEIGHTS_ENTRY} <= set(entries):
                raise Invalid("bad-import", reason="not a Keras model's archive")

            def read(name: str, limit: int) -> bytes:
                with archive.open(entries[name]) as file:
                    content = file.read(limit + 1)  # what the directory says of its size is not believed
                if len(content) > limit:
                    raise Invalid("bad-import", reason="archive entry too large", entry=name, limit_bytes=limit)
                return content

            papers = read(PAPERS_ENTRY, MAX_JSON_BYTES).decode(errors="replace") if PAPERS_ENTRY in entries else None
            config = read(CONFIG_ENTRY, MAX_CONFIG_BYTES).decode(errors="replace")
            return config, read(WEIGHTS_ENTRY, MAX_FILE_BYTES), papers
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, zlib.error) as error:
        raise Invalid("bad-import", reason=f"a broken archive: {type(error).__name__}") from None


def _validate_hdf5(data: bytes) -> tuple[str, str | None]:
    """Look through an HDF5 file: nothing may point outside it or unpack to more than the limit.

    Returns the model's configuration and our papers, where the file has them.
    """
    h5py = load_extra("h5py", "train")
    try:
        with h5py.File(BytesIO(data), "r") as file:
            groups, count, size_bytes = [file], 0, 0
            while groups:
                group = groups.pop()
                for name in group:
                    count += 1
                    if count > MAX_OBJECTS or not isinstance(group.get(name, getlink=True), h5py.HardLink):
                        raise Invalid("bad-import", reason="HDF5 with links or too many objects", limit=MAX_OBJECTS)
                    item = group[name]
                    if isinstance(item, h5py.Group):
                        groups.append(item)
                        continue
                    if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
                        raise Invalid("bad-import", reason="HDF5 that reads other files")
                    size_bytes += item.nbytes
                    if item.dtype.kind not in "fiu" or size_bytes > 8 * MAX_PARAMETERS:
                        raise Invalid("bad-import", reason="HDF5 with too much data, or not numbers")
            return _attribute(file, "model_config", MAX_CONFIG_BYTES) or "{}", _attribute(
                file, METADATA_KEY, MAX_JSON_BYTES
            )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise Invalid("bad-import", reason=f"a broken HDF5 file: {type(error).__name__}") from None


def _attribute(file: Any, name: str, limit: int) -> str | None:  # noqa: ANN401  (an h5py.File)
    text = file.attrs.get(name)
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    if text is not None and (not isinstance(text, str) or len(text) > limit):
        raise Invalid("bad-import", reason="HDF5 attribute too large", attribute=name, limit_bytes=limit)
    return text


def _validate_chain(rows: list[Any]) -> None:
    """Refuse a functional model that is not one layer after the other."""
    for before, row in zip([None, *rows], rows, strict=False):
        inbound = row["inbound_nodes"]
        wanted = [] if before is None else [[[before["name"], 0, 0, {}]]]
        if inbound != wanted:
            refuse(str(row["name"]), "takes something else than the output of the layer before it")


def _read_layers(rows: list[Any]) -> tuple[tuple[int, int, int], tuple[KerasLayer, ...]]:
    shape, layers = None, []
    for row in rows:
        kind, config = row["class_name"], row["config"]
        name = str(row.get("name") or config.get("name") or kind)
        if shape is None:
            shape = _read_shape(name, config)
        if kind == "InputLayer":
            continue
        reader = _READERS.get(kind)
        if kind == "Lambda":
            refuse(name, "a Lambda is code of the file and never run")
        if reader is None:
            refuse(name, f"a {ascii(kind)[1:-1][:40]} is no layer of a chain model")
        layers.append(KerasLayer(kind, name, reader(name, config)))
    if shape is None or not layers:
        raise Invalid("bad-import", reason="no layers")
    return shape, tuple(layers)


def _read_shape(name: str, config: dict[str, Any]) -> tuple[int, int, int]:
    shape = config.get("batch_input_shape") or config.get("batch_shape")
    if not isinstance(shape, list) or len(shape) != 4:  # noqa: PLR2004  (batch, y, x, plane)
        refuse(name, "the model's input is not (height, width, planes)")
    height, width, planes = shape[1:]
    if not (_within(height, MAX_SIDE) and _within(width, MAX_SIDE) and _within(planes, MAX_PLANES)):
        refuse(name, f"input of {ascii(shape[1:])[:40]}: sides to {MAX_SIDE}, planes to {MAX_PLANES}")
    return height, width, planes


def _within(number: object, limit: int) -> bool:
    return type(number) is int and 1 <= number <= limit


def _read_activation(name: str, config: dict[str, Any]) -> str:
    activation = config["activation"]
    activation = activation.get("class_name") if isinstance(activation, dict) else activation
    if activation not in {None, "linear", "softmax", *SIGNS}:
        refuse(name, f"activation {ascii(activation)[:40]} is neither a sign nor the last softmax")
    return "sign" if activation in SIGNS else activation or "linear"


def _is_sign(name: str, quantizer: object, what: str) -> bool:
    """Answer whether there is a quantizer; refuse one that is not the sign."""
    found = quantizer.get("class_name") if isinstance(quantizer, dict) else quantizer
    if found is None:
        return False
    if found not in SIGNS:
        refuse(name, f"{what} quantizer {ascii(found)[:40]} is not the sign (scaled or of more values)")
    return True


def _want(name: str, config: dict[str, Any], setting: str, wanted: object, default: object = None) -> None:
    found = config.get(setting, default)
    if found != wanted:
        refuse(name, f"{setting} is {ascii(found)[:40]}, a chain model has {wanted}")


def _read_weighted(name: str, config: dict[str, Any]) -> dict[str, Any]:
    if not _is_sign(name, config["kernel_quantizer"], "kernel"):
        refuse(name, "its weights are floats: no kernel quantizer")
    return {
        "has_input_sign": _is_sign(name, config["input_quantizer"], "input"),
        "use_bias": bool(config["use_bias"]),
        "activation": _read_activation(name, config),
    }


def _read_quant_conv(name: str, config: dict[str, Any]) -> dict[str, Any]:
    _want(name, config, "kernel_size", [3, 3])
    for setting, wanted in _PLAIN_CONV.items():
        _want(name, config, setting, wanted, wanted if setting == "groups" else None)
    if not _within(config["filters"], MAX_CHANNELS):
        refuse(name, f"filters beyond {MAX_CHANNELS}")
    return _read_weighted(name, config) | {"filters": config["filters"]}


def _read_quant_dense(name: str, config: dict[str, Any]) -> dict[str, Any]:
    if not _within(config["units"], MAX_CHANNELS):
        refuse(name, f"units beyond {MAX_CHANNELS}")
    return _read_weighted(name, config) | {"units": config["units"]}


def _read_thermometer(name: str, config: dict[str, Any]) -> dict[str, Any]:
    if (
        config["kernel_size"] != [1, 1]
        or config["activation"] != "linear"
        or not _within(config["filters"], MAX_PLANES)
    ):
        refuse(name, "a float convolution; only a 1x1 one on grey input, making its planes, can be read")
    for setting, wanted in _PLAIN_CONV.items():
        _want(name, config, setting, wanted, wanted if setting == "groups" else None)
    return {"filters": config["filters"], "use_bias": bool(config["use_bias"])}


def _read_normalisation(name: str, config: dict[str, Any]) -> dict[str, Any]:
    axis = config["axis"]
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    epsilon = config["epsilon"]
    if axis not in {-1, 1, 3} or not isinstance(epsilon, float | int) or not 0 <= epsilon < 1:
        refuse(name, "normalises another axis than the channels, or with an odd epsilon")
    return {"axis": axis, "epsilon": float(epsilon), "center": bool(config["center"]), "scale": bool(config["scale"])}


def _read_pool(name: str, config: dict[str, Any]) -> dict[str, Any]:
    _want(name, config, "pool_size", [2, 2])
    _want(name, config, "strides", [2, 2])
    _want(name, config, "padding", "valid")
    _want(name, config, "data_format", "channels_last")
    return {}


_PLAIN_CONV: dict[str, object] = {
    "strides": [1, 1],
    "padding": "valid",
    "dilation_rate": [1, 1],
    "groups": 1,
    "data_format": "channels_last",
}
_READERS: dict[str, Callable[[str, dict[str, Any]], dict[str, Any]]] = {
    "QuantConv2D": _read_quant_conv,
    "QuantDense": _read_quant_dense,
    "Conv2D": _read_thermometer,
    "BatchNormalization": _read_normalisation,
    "MaxPooling2D": _read_pool,
    "Activation": lambda name, config: {"activation": _read_activation(name, config)},
    "Flatten": lambda _name, _config: {},
    "Dropout": lambda _name, _config: {},
}


def _validate_size(shape: tuple[int, int, int], layers: tuple[KerasLayer, ...]) -> None:
    """Refuse a model whose weights would not fit before any of them is allocated."""
    height, width, channels = shape
    parameters = 0
    for layer in layers:
        if layer.kind in {"QuantConv2D", "Conv2D"}:
            side = 3 if layer.kind == "QuantConv2D" else 1
            height, width = height - side + 1, width - side + 1
            parameters += side * side * channels * layer.settings["filters"]
            channels = layer.settings["filters"]
        elif layer.kind == "MaxPooling2D":
            height, width = height // 2, width // 2
        elif layer.kind == "QuantDense":
            parameters += height * width * channels * layer.settings["units"]
            height, width, channels = 1, 1, layer.settings["units"]
        if height < 1 or width < 1:
            refuse(layer.name, "nothing is left of the image here")
        if parameters > MAX_PARAMETERS:
            refuse(layer.name, f"more than {MAX_PARAMETERS} weights up to here")
