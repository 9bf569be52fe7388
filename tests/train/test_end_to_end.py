"""From a folder of pictures to a model that other tools run: everything that a user does, with two real nodes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from e2e.processes import NodeProcess, bnnchain, bnnchain_json
from PIL import Image

from bnnchain.datasets.digits import load_digits
from bnnchain.datasets.directory import read_directory
from bnnchain.exchange.image_folder import load_folder
from bnnchain_kernels.evaluator import predict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from bnnchain_kernels.evaluator import Samples

NAME = "scans"
CLASSES = ("nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GREY_STEP = 60
GENERATIONS = 3
PREDICTED_IMAGES = 40
PATIENCE_S = 1200


def write_pictures(folder: Path) -> None:
    """Write the embedded digits as PNG files, a folder a class; a pixel's grey is its number of planes that are set."""
    digits = load_digits()
    for split, samples in (("a", digits.pool), ("b", digits.heldout)):
        greys = samples.unpack(0, len(samples)).astype(np.uint8).sum(axis=-1, dtype=np.uint8) * GREY_STEP
        for number, (grey, label) in enumerate(zip(greys, samples.labels, strict=True)):
            directory = folder / CLASSES[label]
            directory.mkdir(parents=True, exist_ok=True)
            Image.fromarray(grey).save(directory / f"{split}{number:04}.png")


def wait_for(seen: Callable[[], Any], nodes: Iterable[NodeProcess], what: str) -> Any:
    """Return what ``seen`` returns once that is something, while the nodes' lines are read."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := seen()):
        assert time.monotonic() < deadline, what
        for node in nodes:
            node.read_for(0.5)
    return found


def scores_of(onnx_file: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(onnx_file, providers=["CPUExecutionProvider"])
    labels, scores = session.run(["labels", "scores"], {"images": images})
    np.testing.assert_array_equal(labels, predict(scores))
    return np.asarray(scores)


def as_bits(samples: Samples) -> np.ndarray:
    return samples.unpack(0, len(samples)).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_from_a_folder_of_pictures_to_a_model_in_onnxruntime(tmp_path: Path) -> None:
    pictures, owner, other = tmp_path / "pictures", tmp_path / "owner", tmp_path / "other"
    write_pictures(pictures)
    bnnchain("init", "--home", str(owner))
    bnnchain("init", "--home", str(other), "--spec", str(owner / "chain.json"))
    created = bnnchain_json(
        "dataset", "create", NAME, str(pictures), "--home", str(owner), "--thresholds", "quantiles:3",
        "--licence", "CC-BY-4.0", "--origin", "UCI digits as pictures", "--drop-conflicts",
    )  # fmt: skip
    assert created["classes"] == sorted(CLASSES)
    mining = ("mine", "--founder", "larq", "--seed", "1", "--hold", "0.2")
    with NodeProcess(*mining, home=owner) as miner:
        address = miner.wait_ready()
        with NodeProcess("node", "--peer", address, home=other) as validator:
            nodes, own = (miner, validator), validator.wait_ready()
            bnnchain("dataset", "upload", NAME, "--home", str(owner), "--node", address)

            def status() -> str | None:
                rows = bnnchain_json("show", "datasets", "--home", str(other))["datasets"]
                return next((row["status"] for row in rows if row["id"] == created["id"]), None)

            def generations() -> list[int]:
                rows = bnnchain_json("model", "list", "--node", own)["models"]
                return [row["generation"] for row in rows if row["dataset_id"] == created["id"]]

            wait_for(lambda: status() == "active", nodes, "the data set never became active")
            wait_for(lambda: max(generations(), default=0) >= GENERATIONS, nodes, "the family never evolved")
            rows = bnnchain_json("model", "list", "--node", own)["models"]
            best = max((row for row in rows if row["dataset_id"] == created["id"]), key=lambda row: row["correct"])
            fetched = tmp_path / "best.bnn"
            bnnchain("model", "get", str(best["height"]), "--node", own, "-o", str(fetched))
            assert validator.stop() == 0
        assert miner.stop() == 0
    assert bnnchain_json("verify", "--home", str(other))["height"] >= best["height"]
    founders = [row for row in rows if row["dataset_id"] == created["id"] and row["kind"] == "FOUND"]
    assert len(founders) >= 2
    assert best["correct"] > max(row["correct"] for row in founders[:2])

    assert_equal_in_onnxruntime(fetched, pictures, owner / "datasets" / NAME, best)
    for name in ("owner", "other"):
        assert "Traceback" not in (tmp_path / f"{name}.stderr").read_text()


def assert_equal_in_onnxruntime(fetched: Path, pictures: Path, dataset: Path, best: dict[str, Any]) -> None:
    """Check that the exported file answers as the node counts: labels, scores, and the block's own claim."""
    from_pixels, from_bits = fetched.with_name("pixels.onnx"), fetched.with_name("bits.onnx")
    for file, kind in ((from_pixels, "pixels"), (from_bits, "bits")):
        bnnchain("model", "export", str(fetched), "--format", "onnx", "--input", kind, "-o", str(file))

    # The block states right labels on the pool: onnxruntime must count the same.
    pool = read_directory(dataset).pool
    labels = scores_of(from_bits, as_bits(pool)).argmax(axis=1)
    assert int((labels == pool.labels).sum()) == best["correct"]
    assert len(pool) == best["total"]

    # And from the pictures themselves, what `model predict` says of each file.
    every = load_folder(pictures)
    step = len(every) // PREDICTED_IMAGES
    paths = [pictures / name for name in every.names[::step]]
    said = bnnchain_json("model", "predict", "--model", str(fetched), *map(str, paths))["predictions"]
    scores = scores_of(from_pixels, every.pixels[::step])
    np.testing.assert_array_equal(scores, [row["scores"] for row in said])
    np.testing.assert_array_equal(scores.argmax(axis=1), [row["label"] for row in said])
