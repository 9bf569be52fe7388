"""Files that a user or operator hands over: refused in words, or read as what they say; nothing of them is run."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from builders import make_spec
from fuzz.target import Target, file_of, mutate_bytes, refusals

from bnnchain.bnn.notation import format_architecture, parse_architecture
from bnnchain.datasets.arrays import load_npz
from bnnchain.datasets.idx import parse_images, parse_labels, read_content
from bnnchain.exchange.keras_config import read_keras_file
from bnnchain.exchange.onnx_graph import read_onnx_file
from bnnchain.exchange.onnx_import import _Walk
from bnnchain.exchange.provenance import Provenance, provenance_from_json
from bnnchain.home import format_spec, parse_spec
from bnnchain_kernels.model import Architecture, Conv3x3, Dense

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

PIXELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([0, 1], np.uint8)


def run_spec_json(data: bytes) -> None:
    """A chain's constitution as operators pass it on: what is read is written to a text that reads the same."""
    with refusals():
        spec = parse_spec(data.decode(errors="replace"))
        assert parse_spec(format_spec(spec)).genesis_id == spec.genesis_id


def run_idx(data: bytes) -> None:
    with refusals("bad-idx"):
        content = read_content(file_of(data, "f.gz"), 1 << 20)
        images = parse_images(content, "f.gz")
        assert struct.pack(">4I", 0x0803, *images.shape) + images.tobytes() == content
    with refusals("bad-idx"):
        labels = parse_labels(read_content(file_of(data, "f.gz"), 1 << 20), "f.gz", 10)
        assert labels.max() < 10


def idx_seeds() -> Sequence[bytes]:
    images = struct.pack(">4I", 0x0803, *PIXELS.shape) + PIXELS.tobytes()
    labels = struct.pack(">2I", 0x0801, len(LABELS)) + LABELS.tobytes()
    return [
        images,
        labels,
        gzip.compress(images, mtime=0),
        gzip.compress(labels, mtime=0),
        gzip.compress(bytes(1 << 21)),
    ]


def run_npz(data: bytes) -> None:
    with refusals("bad-npz", "bad-source"):
        source = load_npz(file_of(data, "f.npz"))
        assert source.images.pixels.dtype == np.uint8
        assert len(source.images.labels) == len(source.images.pixels)


def npz_seeds() -> Sequence[bytes]:
    split = {"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS[:1], "y_test": LABELS[:1]}
    colours = {"images": np.repeat(PIXELS[..., None], 3, axis=3), "labels": LABELS[:, None].astype(np.int64)}
    made = []
    for members in ({"images": PIXELS, "labels": LABELS}, split, colours):
        for save in (np.savez, np.savez_compressed):
            stream = io.BytesIO()
            save(stream, **members)  # type: ignore[arg-type]
            made.append(stream.getvalue())
    return made


def run_provenance(data: bytes) -> None:
    with refusals("bad-model-file"):
        papers = provenance_from_json(data)
        assert provenance_from_json(papers.to_json()) == papers


def provenance_seeds() -> Sequence[bytes]:
    return [Provenance("ab" * 32).to_json().encode(), Provenance("ab" * 32, thresholds=(1, 9)).to_json().encode()]


def run_architecture(data: bytes) -> None:
    with refusals():
        shape = parse_architecture(data.decode(errors="replace"))
        assert parse_architecture(format_architecture(shape)) == shape


def architecture_seeds() -> Sequence[bytes]:
    shapes = (
        Architecture(8, 8, 1, (Dense(10),)),
        Architecture(28, 28, 2, (Conv3x3(9, pool=True), Conv3x3(4), Dense(3))),
    )
    return [format_architecture(shape).encode() for shape in shapes]


def run_keras(data: bytes) -> None:
    """The bytes are a Keras archive's configuration; its weights are an HDF5 file of nothing.

    HDF5 itself is read by libhdf5, which is not ours to fuzz.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("config.json", data)
        archive.writestr("model.weights.h5", _empty_hdf5())
    with refusals("bad-import"):
        file = read_keras_file(file_of(stream.getvalue(), "m.keras"))
        assert file.layers


@lru_cache
def _empty_hdf5() -> bytes:
    import h5py

    stream = io.BytesIO()
    h5py.File(stream, "w").close()
    return stream.getvalue()


def run_keras_archive(data: bytes) -> None:
    """The bytes are the archive."""
    with refusals("bad-import"):
        read_keras_file(file_of(data, "m.keras"))


def keras_config() -> bytes:
    common = {"input_quantizer": None, "kernel_quantizer": "ste_sign", "use_bias": False, "activation": "linear"}
    conv = {
        **common,
        "batch_input_shape": [None, 8, 8, 1],
        "name": "a",
        "filters": 4,
        "kernel_size": [3, 3],
        "strides": [1, 1],
        "padding": "valid",
        "dilation_rate": [1, 1],
        "groups": 1,
        "data_format": "channels_last",
    }
    pool = {"name": "p", "pool_size": [2, 2], "strides": [2, 2], "padding": "valid", "data_format": "channels_last"}
    norm = {"name": "n", "axis": [3], "epsilon": 0.001, "center": True, "scale": False}
    dense = {**common, "name": "d", "units": 10, "input_quantizer": "ste_sign", "activation": "softmax"}
    layers = [
        ("QuantConv2D", conv), ("MaxPooling2D", pool), ("BatchNormalization", norm), ("Flatten", {"name": "f"}),
        ("Dropout", {"name": "o"}), ("QuantDense", dense), ("Activation", {"name": "s", "activation": "softmax"}),
    ]  # fmt: skip
    rows = [{"class_name": kind, "config": config} for kind, config in layers]
    return json.dumps({"class_name": "Sequential", "config": {"name": "m", "layers": rows}}).encode()


def keras_archive_seeds() -> Sequence[bytes]:
    made = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", compression) as archive:
            archive.writestr(zipfile.ZipInfo("config.json"), keras_config(), compression)
            archive.writestr(zipfile.ZipInfo("model.weights.h5"), _empty_hdf5(), compression)
        made.append(stream.getvalue())
    return made


def run_onnx(data: bytes) -> None:
    """The graph is read and walked; the runtime, which is not ours, is not asked."""
    with refusals("bad-import"):
        content = read_onnx_file(file_of(data, "m.onnx"))
        walk = _Walk(content, binary_input=bool(len(data) & 1))
        for node in content.nodes:
            walk.take(node)


def onnx_seeds() -> Sequence[bytes]:
    from exchange import graphs

    kept: list[bytes] = []
    sink = SimpleNamespace(write_bytes=kept.append)
    made = [graphs.channels_first(), graphs.channels_last(), graphs.reshaped(), graphs.reshaped(planes=(1, 128))]
    for graph in (*made, _folding(graphs.Graph)):
        graph.save(sink)  # type: ignore[arg-type]
    return kept


def _folding(make: Callable[..., Any]) -> Any:
    """Return a network whose weights are computed from constants by every kind of node that is folded."""
    from onnx import helper

    graph = make(("batch", 4, 4, 1))
    value = graph.constant(graph.signs(3, 16))
    steps = [("Transpose", [], {"perm": [1, 0]}), ("Cast", [], {"to": 1}), ("Identity", [], {}), ("Neg", [], {})]
    steps += [(kind, [graph.constant(0.0)], {}) for kind in ("Add", "Sub")] + [("Sign", [], {})]
    steps += [("Mul", [graph.constant(1.0)], {}), ("Reshape", [graph.constant([16, 3], np.int64)], {})]
    for number, (kind, inputs, attributes) in enumerate(steps):
        graph.nodes.append(helper.make_node(kind, [value, *inputs], [f"w{number}"], **attributes))
        value = f"w{number}"
    graph.add("Sign").add("Reshape", graph.constant([-1, 16], np.int64))
    return graph.add("MatMul", value)


def mutate_onnx(data: bytes, rng: random.Random) -> bytes:
    """Return the graph with one thing changed; protobuf reads names that are not UTF-8 and raises at their use."""
    try:
        return _mutate_graph(data, rng)
    except UnicodeDecodeError:
        return mutate_bytes(data, rng)


def _mutate_graph(data: bytes, rng: random.Random) -> bytes:
    """Return the graph with a node taken out, doubled, moved, renamed, or with another attribute or constant."""
    import onnx

    try:
        proto = onnx.load_model_from_string(data)
    except Exception as error:
        if type(error).__name__ != "DecodeError":
            raise
        return mutate_bytes(data, rng)
    nodes, constants = proto.graph.node, proto.graph.initializer
    what = rng.randrange(7)
    if what == 0 or not nodes:
        return mutate_bytes(data, rng)
    node = rng.choice(nodes)
    if what == 1:
        nodes.remove(node)
    elif what == 2:
        nodes.insert(rng.randrange(len(nodes) + 1), node)
    elif what == 3:
        node.op_type = rng.choice([*(each.op_type for each in nodes), "Concat", "If", "Loop", "Identity", "ArgMax"])
    elif what == 6 and node.input:
        names = [*(name for each in nodes for name in (*each.input, *each.output)), ""]
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
        if rng.random() < 0.3:
            node.input.pop()
    elif what == 4 and node.attribute:
        attribute = rng.choice(node.attribute)
        values = rng.choice([[], [0], [-1], [2, 2], [1 << 40], [3, 2, 1, 0], [1, 1, 1, 1]])
        attribute.ClearField("ints")
        attribute.ints.extend(values)
        attribute.i = rng.choice([0, 1, -1, 1 << 62])
        attribute.f = rng.choice([0.0, -1.0, float("nan"), 1e30])
    elif constants:
        constant = rng.choice(constants)
        if constant.dims and rng.random() < 0.5:
            constant.dims[rng.randrange(len(constant.dims))] = rng.choice([0, 1, 2, 3, 7, 1 << 31, 1 << 62])
        else:
            constant.raw_data = mutate_bytes(constant.raw_data, rng)
    return bytes(proto.SerializeToString())


_JSON = (b'"', b"{", b"}", b"[", b"]", b":", b",", b"null", b"true", b"1e999", b"NaN", b"-1", b"\\u001b")
_KERAS = tuple(
    b'"' + word + b'"'
    for word in (
        b"class_name", b"config", b"layers", b"QuantConv2D", b"QuantDense", b"Conv2D", b"BatchNormalization",
        b"MaxPooling2D", b"Activation", b"Lambda", b"InputLayer", b"Functional", b"inbound_nodes", b"ste_sign",
        b"batch_shape", b"kernel_quantizer", b"filters", b"units", b"axis",
    )
)  # fmt: skip
_NPZ = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"\x93NUMPY", b"'descr': '|u1'", b"'shape': (", b"'|O'", b"<i8")

TARGETS = [
    Target(
        "spec-json",
        run_spec_json,
        lambda: [format_spec(make_spec()).encode()],
        max_size_bytes=8_192,
        tokens=(*_JSON, b'"format"', b'"schedule"', b'"allocations"', b'"initial_target"', b'"chain_id"'),
    ),
    Target("idx", run_idx, idx_seeds, tokens=(b"\0\0\x08\x03", b"\0\0\x08\x01", b"\x1f\x8b\x08")),
    Target("npz", run_npz, npz_seeds, max_size_bytes=2_048, tokens=_NPZ),
    Target("provenance", run_provenance, provenance_seeds, tokens=(*_JSON, b'"model_hash"', b'"thresholds"')),
    Target("architecture", run_architecture, architecture_seeds, max_size_bytes=256, tokens=(b"x", b"-", b"c", b"p")),
    Target("keras-config", run_keras, lambda: [keras_config()], tokens=(*_JSON, *_KERAS), needs="h5py"),
    Target("keras-archive", run_keras_archive, keras_archive_seeds, tokens=_NPZ[:3], needs="h5py"),
    Target("onnx", run_onnx, onnx_seeds, mutate_onnx, max_size_bytes=8_192, needs="onnx"),
]
