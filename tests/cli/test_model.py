from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pytest
from builders import SIDE, tiny_dataset
from click.testing import CliRunner, Result
from net.running import Nodes
from PIL import Image

from bnnchain.bnn.encoding import decode_model, encode_model, model_hash
from bnnchain.cli.model import model
from bnnchain.exchange.files import read_model, write_model
from bnnchain.exchange.provenance import Provenance
from bnnchain.mining.genesis import random_model
from bnnchain_kernels.errors import BnnchainError, Invalid, Unavailable
from bnnchain_kernels.model import Architecture, Conv3x3, Dense
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from net.running import Running


def run(*arguments: object) -> Result:
    return CliRunner().invoke(model, [str(each) for each in arguments])


def lines(result: Result) -> str:
    assert result.exit_code == 0, result.exception
    return result.stdout


def error_of(result: Result) -> BnnchainError:
    assert isinstance(result.exception, BnnchainError), result.output
    assert "\n" not in str(result.exception)
    return result.exception


async def ask(*arguments: object) -> Result:
    """Run a command that asks a node in this event loop."""
    return await asyncio.to_thread(run, *arguments)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Running]:
    made = Nodes(tmp_path)
    running = await made.start()
    running.builder.extend(5)
    yield running
    await made.close()


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    shape = Architecture(8, 8, 1, (Conv3x3(5, pool=True), Dense(6), Dense(4)))
    made, path = random_model(shape, bytes(32)), tmp_path / "m.bnn"
    write_model(path, made, Provenance(model_hash(made).hex(), thresholds=(128,), licence="CC0-1.0"))
    return path


# A running node.


async def test_list_show_and_get(node: Running, tmp_path: Path) -> None:
    family = node.chain.head.families[0]
    text = lines(await ask("list", "--node", node.address))
    assert text.startswith("family 0: 5 models on data set ")
    assert f"{family.best.correct}/700" in next(line for line in text.splitlines() if line.endswith("best"))
    rows = json.loads(lines(await ask("list", "--node", node.address, "--json", "-")))["models"]
    assert [row["height"] for row in rows] == [1, 2, 3, 4, 5]

    shown = lines(await ask("show", "--node", node.address))
    assert f"model_hash   {family.best.model_hash.hex()}" in shown
    path = tmp_path / "best.bnn"
    lines(await ask("get", "--node", node.address, "-o", path))
    assert model_hash(decode_model(path.read_bytes())) == family.best.model_hash
    provenance = read_model(path)[1]
    manifest, spec = tiny_dataset().manifest, node.chain.spec
    assert provenance == Provenance(
        model_hash=family.best.model_hash.hex(),
        chain=spec.name,
        genesis_id=spec.genesis_id.hex(),
        block_id=family.best.block_id.hex(),
        height=family.best.height,
        family=0,
        generation=family.best.generation,
        miner=family.best.miner.hex(),
        dataset="tiny",
        dataset_id=manifest.dataset_id.hex(),
        thresholds=(128,),
        licence="CC0-1.0",
        origin="tests",
        correct=family.best.correct,
        total=700,
    )


async def test_which_model(node: Running, tmp_path: Path) -> None:
    family, path = node.chain.head.families[0], tmp_path / "x.bnn"
    for which, height in (
        ("2", 2),
        (family.founders[0].block_id.hex(), 1),
        ("0:", family.best.height),
        ("0:1", 3),
        ("0:2", 4),
        ("best", family.best.height),
    ):
        lines(await ask("get", which, "--node", node.address, "-o", path))
        assert read_model(path)[1].height == height, which
    lines(await ask("get", "0:0", "--node", node.address, "-o", path))
    assert read_model(path)[1].correct == max(founder.correct for founder in family.founders)
    for which in ("99", "7:", "0:77", "0", "ab" * 32):
        assert isinstance(error_of(await ask("show", which, "--node", node.address)), Unavailable), which
    refusal = error_of(await ask("show", "nonsense", "--node", node.address))
    assert isinstance(refusal, Invalid)
    assert refusal.code == "bad-id"


async def test_a_picture_is_classified_by_the_nodes_best_model(node: Running, tmp_path: Path) -> None:
    pool = tiny_dataset().pool
    pixels = pool.unpack(5, 6)[0, ..., 0] * np.uint8(255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    wanted = ReferenceEvaluator(pool).logits(node.chain.head.families[0].best.model, 5, 6)[0]
    found = json.loads(lines(await ask("predict", tmp_path / "a.png", "--node", node.address, "--json", "-")))
    assert found["predictions"][0]["scores"] == wanted.tolist()
    assert found["predictions"][0]["label"] == int(np.argmax(wanted))
    assert pixels.shape == (SIDE, SIDE)


def test_no_node_is_one_clear_line() -> None:
    assert isinstance(error_of(run("list", "--node", "127.0.0.1:1")), Unavailable)


# Files.


def test_export_to_onnx_and_back(model_file: Path, tmp_path: Path) -> None:
    target, back = tmp_path / "m.onnx", tmp_path / "back.bnn"
    assert "onnx, " in lines(run("export", "--format", "onnx", model_file, "-o", target))
    session = onnxruntime.InferenceSession(target.read_bytes())
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8)).astype(np.uint8)
    assert session.run(["scores"], {"images": pixels})[0].shape == (9, 4)
    lines(run("import", target, "-o", back))
    assert back.read_bytes() == model_file.read_bytes()
    assert read_model(back)[1] == read_model(model_file)[1]


def test_export_to_c_says_what_it_takes(model_file: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.h"
    lines(run("export", "--format", "c", model_file, "-o", target))
    assert "bnn_pack_image" in target.read_text()
    lines(run("export", "--format", "c", "--input", "bits", model_file, "-o", target))
    assert "bnn_pack_image" not in target.read_text()


def test_grey_values_must_be_known(model_file: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.bnn"
    bare.write_bytes(encode_model(read_model(model_file)[0]))
    target = tmp_path / "m.onnx"
    assert "--thresholds" in str(error_of(run("export", "--format", "onnx", bare, "-o", target)))
    lines(run("export", "--format", "onnx", "--thresholds", "77", bare, "-o", target))
    lines(run("export", "--format", "onnx", "--input", "bits", bare, "-o", target))
    assert run("export", "--format", "onnx", "--thresholds", "x", bare, "-o", target).exit_code == 2


def test_predict_from_a_file(model_file: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(255 - pixels).save(tmp_path / "b.png")
    plain = lines(run("predict", "--model", model_file, tmp_path / "a.png")).partition("a.png: ")[2]
    inverted = lines(run("predict", "--model", model_file, tmp_path / "b.png", "--invert")).partition("b.png: ")[2]
    assert plain.startswith("class ")
    assert plain == inverted
    Image.fromarray(np.kron(pixels, np.ones((2, 2), np.uint8))).save(tmp_path / "c.png")
    assert "16x16, wanted 8x8" in str(error_of(run("predict", "--model", model_file, tmp_path / "c.png")))
    assert plain == lines(run("predict", "--model", model_file, tmp_path / "c.png", "--resize")).partition(": ")[2]


def test_import_goes_by_the_files_ending(tmp_path: Path) -> None:
    assert "none of .keras, .h5, .onnx" in str(error_of(run("import", tmp_path / "m.pkl", "-o", tmp_path / "x.bnn")))


@pytest.mark.parametrize(
    ("missing", "extra", "arguments"),
    [
        ("onnx", "onnx", ["export", "--format", "onnx", "MODEL", "-o", "x.onnx"]),
        ("tensorflow", "train", ["export", "--format", "keras", "MODEL", "-o", "x.keras"]),
        ("larq_compute_engine", "tflite", ["export", "--format", "tflite", "MODEL", "-o", "x.tflite"]),
        ("onnx", "onnx", ["import", "x.onnx", "-o", "x.bnn"]),
        ("h5py", "train", ["import", "x.h5", "-o", "x.bnn"]),
        ("PIL.Image", "images", ["predict", "--model", "MODEL", "x.png"]),
    ],
)
def test_a_missing_extra_is_named(
    missing: str, extra: str, arguments: list[str], model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("x.onnx", "x.h5", "x.png"):
        (tmp_path / name).write_bytes(b"something")
    for name in [name for name in sys.modules if name == missing or name.startswith(f"{missing}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    filled: list[Any] = [model_file if each == "MODEL" else each for each in arguments]
    error = error_of(run(*filled))
    assert isinstance(error, Unavailable)
    assert str(error) == f"{missing.partition('.')[0]} is not installed: pip install 'bnnchain[{extra}]'"
