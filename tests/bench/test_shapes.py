"""The benchmark of shapes runs from end to end and keeps its own promises; on noise, in seconds."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnnchain.bnn.notation import parse_architecture
from bnnchain.bnn.zoo import ZOO
from bnnchain.datasets.dataset import Dataset, build_dataset
from bnnchain_kernels.evaluator import Samples

if TYPE_CHECKING:
    from types import ModuleType


BENCH = Path(__file__).resolve().parents[2] / "bench"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


shapes = load("shapes")


def noise() -> Dataset:
    """Images of MNIST's size whose brightness is their label."""
    rng = np.random.default_rng(1)

    def draw(count: int) -> Samples:
        labels = np.arange(count, dtype=np.uint8) % 10
        bits = rng.random((count, 784)) < (0.05 + labels[:, None] / 11)
        return Samples(28, 28, 1, 10, np.packbits(bits, axis=1, bitorder="little"), labels)

    return build_dataset("noise", b"\x80", draw(400), draw(100), licence="CC0-1.0", origin="tests")


def test_a_small_run_reports_shapes_that_cost_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shapes, "load_mnist", lambda _directory: noise())
    sizes = ["--training-size", "200", "--validation-size", "100", "--population", "3", "--generations", "2"]
    epochs = ["--epochs", "1", "--finalist-epochs", "1", "--final-epochs", "1"]
    arguments = ["shapes.py", "--data", "x", "--seeds", "2", *sizes, *epochs, "--json", str(tmp_path / "r.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    shapes.main()
    report = json.loads((tmp_path / "r.json").read_text())
    baseline = ZOO["cnn-4k"]
    assert [search["request"]["seed"] for search in report["searches"]] == [0, 1]
    for search in report["searches"]:
        assert search["cpu_s"] > 0
        for row in [*search["scored"], *search["front"], *search["finalists"]]:
            shape = parse_architecture(row["shape"])
            assert shape.weight_count <= baseline.weight_count
            assert shape.mac_count <= baseline.mac_count
    kinds = {(row["seed"], row["kind"]): row for row in report["compared"]}
    for seed in (0, 1):
        assert kinds[seed, "cnn-4k"]["shape"] == report["baseline"]
        assert kinds[seed, "accurate"]["epochs"] == kinds[seed, "cnn-4k"]["epochs"] == 1
        if (seed, "light") in kinds:
            assert kinds[seed, "light"]["macs"] <= baseline.mac_count / 2
    printed = capsys.readouterr().out
    assert "cnn-4k: test" in printed
    assert "accurate: test" in printed

    pytest.importorskip("matplotlib")
    redraw = ["shapes.py", "--redraw", str(tmp_path / "r.json"), "--chart", str(tmp_path / "chart")]
    monkeypatch.setattr(sys, "argv", redraw)
    shapes.main()
    picture = (tmp_path / "chart.svg").read_text()
    assert "cnn-4k" in picture
    assert "accurate" in picture


def test_neither_data_nor_an_earlier_run_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in ([], ["--redraw", "r.json"]):
        monkeypatch.setattr(sys, "argv", ["shapes.py", *arguments])
        with pytest.raises(SystemExit):
            shapes.main()
