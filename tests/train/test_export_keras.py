"""Exported Larq networks answer as the kernel does; exports come back the same; other tools' files are read safely."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from exchange.papers import papers, wanted_scores, zoo_model, zoo_pixels
from random_networks import random_architecture, random_model, random_samples

from bnnchain.bnn.encoding import model_hash
from bnnchain.bnn.zoo import ZOO
from bnnchain.exchange import keras_config
from bnnchain.exchange.extras import load_larq
from bnnchain.exchange.keras_export import build_larq, export_keras, export_tflite
from bnnchain.exchange.keras_import import import_keras
from bnnchain_kernels.errors import Invalid, Unavailable
from bnnchain_kernels.evaluator import predict
from bnnchain_kernels.model import Architecture, Conv3x3, Dense
from bnnchain_kernels.native import NativeEvaluator
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

BATCH = 500


def answers(network: Any, images: np.ndarray) -> np.ndarray:
    parts = [network(images[at : at + BATCH], training=False).numpy() for at in range(0, len(images), BATCH)]
    return np.concatenate(parts)


# Exports.


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_keras_answers_as_the_kernel_on_ten_thousand_images(name: str, suffix: str, tmp_path: Path) -> None:
    keras, _ = load_larq()
    model, (pixels, thresholds) = zoo_model(name), zoo_pixels(name)
    path = tmp_path / f"m{suffix}"
    export_keras(model, papers(model), thresholds, path)
    network = keras.models.load_model(path, compile=False, safe_mode=True)
    scores = answers(network, pixels[..., None].astype(np.float32))
    wanted = wanted_scores(model, pixels, thresholds)
    assert len(scores) == 10_000
    assert (scores != wanted).sum() == 0
    assert (scores.argmax(axis=1) != predict(wanted)).sum() == 0


@pytest.mark.parametrize("seed", range(5))
def test_random_shapes_take_signs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    model, samples = random_model(rng, shape), random_samples(rng, shape, 100)
    network = build_larq(model, None, None)
    scores = answers(network, samples.unpack(0, 100).astype(np.float32) * 2 - 1)
    np.testing.assert_array_equal(scores, ReferenceEvaluator(samples).logits(model, 0, 100))


def test_tflite_answers_as_the_kernel_and_carries_its_papers() -> None:
    engine = pytest.importorskip("larq_compute_engine")
    model, (pixels, thresholds) = zoo_model("cnn-4k"), zoo_pixels("cnn-4k")
    content = export_tflite(model, papers(model, thresholds=thresholds), thresholds)
    interpreter = engine.testing.Interpreter(content, num_threads=1)
    pixels = pixels[:1000]
    scores = np.asarray(interpreter.predict(pixels[..., None].astype(np.float32)))
    assert (scores != wanted_scores(model, pixels, thresholds)).sum() == 0
    assert papers(model, thresholds=thresholds).to_json().encode() in content


def test_other_endings_are_refused(tmp_path: Path) -> None:
    model = zoo_model("cnn-digits")
    with pytest.raises(Invalid, match=r"bad-export .*\.keras or \.h5"):
        export_keras(model, papers(model), None, tmp_path / "m.pb")


# Imports of our own.


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_comes_back_the_same(name: str, suffix: str, tmp_path: Path) -> None:
    model, path = zoo_model(name), tmp_path / f"m{suffix}"
    thresholds = (3, 7, 11, 15) if name == "cnn-digits" else (128,)
    written = papers(model, thresholds=thresholds)
    export_keras(model, written, thresholds, path)
    found, provenance = import_keras(path, NativeEvaluator)
    assert model_hash(found) == model_hash(model)
    assert provenance == written


@pytest.mark.parametrize("seed", range(5))
def test_random_shapes_come_back_the_same(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    model, path = random_model(rng, shape), tmp_path / "m.keras"
    export_keras(model, papers(model), None, path)
    assert model_hash(import_keras(path, ReferenceEvaluator, binary_input=True)[0]) == model_hash(model)
    with pytest.raises(Invalid, match="layer=layer_0, reason=its input is not binary"):
        import_keras(path, ReferenceEvaluator)


# A user's own networks.


def layers(**changes: Any) -> list[Any]:
    """Return the layers of a small network; ``changes`` replace settings of, or insert after, a layer by name."""
    keras, larq = load_larq()
    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "use_bias": False}
    first = {"filters": 4, "kernel_size": 3, "input_shape": (12, 12, 1)}
    made = {
        "conv": larq.layers.QuantConv2D(**{**first, **options, "name": "conv", **changes.pop("conv", {})}),
        "pool": keras.layers.MaxPooling2D(**{"pool_size": 2, "name": "pool", **changes.pop("pool", {})}),
        "norm": keras.layers.BatchNormalization(**{"scale": False, "name": "norm", **changes.pop("norm", {})}),
        "flat": keras.layers.Flatten(name="flat"),
        "dense": larq.layers.QuantDense(6, **{**options, "name": "dense", **changes.pop("dense", {})}),
        "norm_2": keras.layers.BatchNormalization(**{"name": "norm_2", **changes.pop("norm_2", {})}),
        "last": larq.layers.QuantDense(3, **{**options, "name": "last", **changes.pop("last", {})}),
        "end": keras.layers.Activation("softmax", name="end"),
    }
    listed = []
    for name, layer in made.items():
        listed += [layer, *([changes.pop(f"after_{name}")] if f"after_{name}" in changes else [])]
    assert not changes
    return listed


def save(path: Path, listed: list[Any], seed: int = 0) -> Path:
    keras, _ = load_larq()
    network, rng = keras.Sequential(listed), np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            values = [rng.normal(0, 2, each.shape) for each in layer.get_weights()]
            values[-1] = rng.random(values[-1].shape) * 30
            layer.set_weights(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.save(path)
    return path


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("seed", range(3))
def test_a_users_network_is_read_with_negative_scales_and_softmax(suffix: str, seed: int, tmp_path: Path) -> None:
    found, provenance = import_keras(save(tmp_path / f"m{suffix}", layers(), seed), ReferenceEvaluator)
    assert found.architecture == Architecture(12, 12, 1, (Conv3x3(4, pool=True), Dense(6), Dense(3)))
    assert provenance.thresholds is None


def test_biases_of_hidden_layers_are_folded_and_of_the_last_are_integers(tmp_path: Path) -> None:
    listed = layers(conv={"use_bias": True}, last={"use_bias": True})
    path = save(tmp_path / "m.h5", listed)
    listed[0].set_weights([listed[0].get_weights()[0], np.array([0.5, -3.25, 1e-3, 9], np.float32)])
    listed[-2].set_weights([listed[-2].get_weights()[0], np.array([2, -7, 0], np.float32)])
    save(path, listed)
    assert import_keras(path, ReferenceEvaluator)[0].biases.tolist() == [2, -7, 0]
    listed[-2].set_weights([listed[-2].get_weights()[0], np.array([2, -7.5, 0], np.float32)])
    save(path, listed)
    with pytest.raises(Invalid, match="layer=last, reason=score 1 is scaled or normalised"):
        import_keras(path, ReferenceEvaluator)


def refused() -> dict[str, tuple[dict[str, Any], str]]:
    keras, _ = load_larq()
    return {
        "padding": ({"conv": {"padding": "same"}}, "layer=conv, reason=padding is 'same'"),
        "stride": ({"conv": {"strides": 2}}, r"layer=conv, reason=strides is \[2, 2\]"),
        "kernel": ({"conv": {"kernel_size": 5}}, r"layer=conv, reason=kernel_size is \[5, 5\]"),
        "dilation": ({"conv": {"dilation_rate": 2}}, "layer=conv, reason=dilation_rate"),
        "float weights": ({"dense": {"kernel_quantizer": None}}, "layer=dense, reason=its weights are floats"),
        "scaled": (
            {"dense": {"kernel_quantizer": "magnitude_aware_sign"}},
            "layer=dense, reason=kernel quantizer 'MagnitudeAwareSign' is not the sign",
        ),
        "ternary": ({"dense": {"input_quantizer": "ste_tern"}}, "layer=dense, reason=input quantizer 'SteTern'"),
        "float activations": ({"dense": {"input_quantizer": None}}, "reason=its sums reach dense without a sign"),
        "input": ({"conv": {"input_quantizer": None}}, "layer=conv, reason=its input is not binary"),
        "relu": ({"conv": {"activation": "relu"}}, "layer=conv, reason=activation 'relu'"),
        "float layer": ({"after_flat": keras.layers.Dense(9, name="float")}, "layer=float, reason=a Dense is no layer"),
        "pool": ({"pool": {"pool_size": 3}}, r"layer=pool, reason=pool_size is \[3, 3\]"),
        "pool stride": ({"pool": {"strides": 1}}, "layer=pool, reason=strides is"),
        "negative after pool": (
            {"norm": {"scale": True, "gamma_initializer": "ones"}},
            "layer=norm|scaled by a negative number after its pool",
        ),
        "last norm": (
            {"after_last": keras.layers.BatchNormalization(name="late")},
            "layer=last, reason=score 0 is scaled or normalised",
        ),
        "lambda": ({"after_flat": keras.layers.Lambda(lambda x: x, name="evil")}, "evil, reason=a Lambda is code"),
        "normalised places": (
            {"after_flat": keras.layers.BatchNormalization(name="late")},
            "normalises after flattening, place by place|a second normalisation",
        ),
    }


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_what_no_chain_model_can_be_is_refused_by_name(suffix: str, tmp_path: Path) -> None:
    for name, (changes, reason) in refused().items():
        path = save(tmp_path / f"{name.replace(' ', '_')}{suffix}", layers(**changes))
        with pytest.raises(Invalid, match=reason) as refusal:
            import_keras(path, ReferenceEvaluator)
        assert refusal.value.code == "bad-import"


def test_branches_are_refused(tmp_path: Path) -> None:
    keras, larq = load_larq()
    options = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign", "use_bias": False}
    images = keras.Input((8, 8, 1))
    left = larq.layers.QuantConv2D(4, 3, **options)(images)
    right = larq.layers.QuantConv2D(4, 3, **options)(images)
    scores = larq.layers.QuantDense(3, **options)(keras.layers.Flatten()(left + right))
    keras.Model(images, scores).save(tmp_path / "m.keras")
    with pytest.raises(Invalid, match="takes something else than the output of the layer before it"):
        import_keras(tmp_path / "m.keras", ReferenceEvaluator)


# Hostile files: nothing of these reaches TensorFlow.


def rewrite(path: Path, **entries: bytes | None) -> Path:
    """Replace, add or (None) remove entries of an archive; ``__`` stands for a dot."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content |= {name.replace("__", "."): data for name, data in entries.items()}  # type: ignore[misc]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            if data is not None:
                archive.writestr(name, data)
    return path


def refusal_of(path: Path) -> str:
    with pytest.raises(Invalid) as refusal:
        import_keras(path, ReferenceEvaluator)
    assert refusal.value.code == "bad-import"
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return save(tmp_path / "m.keras", layers())


def config_of(archive: Path) -> dict[str, Any]:
    with zipfile.ZipFile(archive) as opened:
        config: dict[str, Any] = json.loads(opened.read("config.json"))
    return config


def test_modules_that_a_file_names_are_never_imported(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    config = config_of(archive)
    for place in (config, config["config"]["layers"][1], config["config"]["layers"][1]["config"]["kernel_initializer"]):
        place["module"], place["registered_name"] = "evil_module", "evil"
    rewrite(archive, config__json=json.dumps(config).encode())
    import_keras(archive, ReferenceEvaluator)  # the names are not looked at


def test_giant_settings_allocate_nothing(archive: Path) -> None:
    for setting, value in (("filters", 10**9), ("filters", -1), ("filters", True), ("filters", 4096.0)):
        config = config_of(archive)
        config["config"]["layers"][1]["config"][setting] = value
        assert "filters beyond 4096" in refusal_of(rewrite(archive, config__json=json.dumps(config).encode()))
    config = config_of(archive)
    config["config"]["layers"][1]["config"]["filters"] = 5
    assert "do not fit" in refusal_of(rewrite(archive, config__json=json.dumps(config).encode()))


def test_wide_networks_are_refused_before_they_are_built(archive: Path) -> None:
    config = config_of(archive)
    listed = config["config"]["layers"]
    listed[1]["config"]["filters"] = 4096
    listed[5]["config"]["units"] = 4096
    assert "more than 16777216 weights" in refusal_of(rewrite(archive, config__json=json.dumps(config).encode()))


@pytest.mark.parametrize(
    "config", [b"", b"[]", b"{}", b"[" * 9000, b'{"class_name": "Sequential", "config": {"layers": 5}}', b"\xff"]
)
def test_configurations_that_make_no_sense(archive: Path, config: bytes) -> None:
    refusal_of(rewrite(archive, config__json=config))


def test_archives_have_limits(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not a Keras model's archive" in refusal_of(rewrite(archive, model__weights__h5=None))
    monkeypatch.setattr(keras_config, "MAX_CONFIG_BYTES", 100)
    path = save(archive, layers())
    assert "archive entry too large" in refusal_of(path)
    path.write_bytes(path.read_bytes()[:200])
    assert "a broken archive" in refusal_of(path)


def test_hdf5_that_points_outside_is_refused(archive: Path) -> None:
    import h5py

    def with_weights(change: Any) -> Path:
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            change(file)
        return rewrite(archive, model__weights__h5=buffer.getvalue())

    assert "links" in refusal_of(
        with_weights(lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/passwd", "/")))
    )
    assert "links" in refusal_of(with_weights(lambda file: file.__setitem__("x", h5py.SoftLink("/y"))))
    external = [("/etc/passwd", 0, 100)]
    assert "reads other files" in refusal_of(
        with_weights(lambda file: file.create_dataset("x", (100,), "u1", external=external))
    )
    bomb = {"compression": "gzip", "chunks": (1 << 20,)}
    assert "too much data" in refusal_of(with_weights(lambda file: file.create_dataset("x", (1 << 40,), "f4", **bomb)))
    assert "not numbers" in refusal_of(with_weights(lambda file: file.create_dataset("x", data=b"text")))


@pytest.mark.parametrize("data", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_broken_hdf5_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(data)
    assert "broken HDF5" in refusal_of(path)
    with pytest.raises(Unavailable, match="No such file"):
        import_keras(tmp_path / "none.h5", ReferenceEvaluator)


def test_files_over_the_limit_are_not_read(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_config, "MAX_FILE_BYTES", 1000)
    with pytest.raises(Invalid, match="file too large"):
        import_keras(archive, ReferenceEvaluator)
