from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from bnnchain.bnn.notation import format_architecture
from bnnchain.bnn.zoo import ZOO
from bnnchain.cli.architectures import find_architecture
from bnnchain.cli.run import mine
from bnnchain.cli.shapes import choose_finalists, shapes
from bnnchain.cli.train import train
from bnnchain.datasets.digits import load_digits
from bnnchain.exchange.files import read_model
from bnnchain.mining.shape_search import ShapeSearch
from bnnchain_kernels.errors import BnnchainError, Fault, Invalid, Unavailable
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

SMALL = ("--dataset", "digits", "--max-connections", "1500", "--population", "4", "--generations", "2", "--epochs", "1")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNNCHAIN_HOME", str(tmp_path / "home"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(shapes, ["evolve", *SMALL, *map(str, arguments)])


def report_of(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json", "-")
    assert result.exit_code == 0, result.exception
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def test_finalists_are_written_as_models_that_count_what_is_said(tmp_path: Path) -> None:
    report = report_of("--finalists", 2, "--out", tmp_path / "out", "--founding-epochs", 1)
    assert len(report["finalists"]) == len(list((tmp_path / "out").glob("*.bnn"))) <= 2
    pool = load_digits().pool
    for row in report["finalists"]:
        model, papers = read_model(tmp_path / "out" / f"{row['shape']}.bnn")
        assert format_architecture(model.architecture) == row["shape"]
        assert (papers.model_hash, papers.dataset, papers.total) == (row["hash"], "digits", 1_297)
        assert papers.correct == count_correct(ReferenceEvaluator(pool), model, len(pool))
        assert row["pool_percent"] == pytest.approx(100 * papers.correct / 1_297)
        assert find_architecture(row["model"]) == find_architecture(row["shape"]) == model.architecture


def test_the_report_has_every_shape_within_the_bounds() -> None:
    report = report_of("--max-macs", 9_000)
    assert report["request"]["space"]["max_connection_count"] == 1_500
    assert len(report["scored"]) == 8
    for row in [*report["scored"], *report["front"]]:
        shape = find_architecture(row["shape"])
        assert (row["weights"], row["macs"]) == (shape.weight_count, shape.mac_count)
        assert row["weights"] <= 1_500
        assert row["macs"] <= 9_000


def test_threads_change_nothing_and_the_seed_does() -> None:
    first = report_of("--threads", 1)
    assert first == report_of("--threads", 3)
    assert first["scored"] != report_of("--seed", 1)["scored"]


def test_presets_bound_what_may_be_asked() -> None:
    report = report_of("--preset", "main", "--max-connections", 1 << 30, "--max-macs", 9_000, "--generations", 1)
    assert report["request"]["space"]["max_connection_count"] == 1 << 18
    assert report["request"]["space"]["max_mac_count"] == 9_000


def test_a_start_shape_outside_the_bounds_is_refused() -> None:
    for start in ("cnn-digits", "cnn-4k"):
        error = run("--start", start).exception
        assert isinstance(error, Invalid)
        assert error.code == "bad-shape-search"


def test_more_images_than_the_pool_has_are_refused() -> None:
    error = run("--training-images", 1_297, "--validation-images", 1).exception
    assert isinstance(error, Invalid)
    assert error.values["pool"] == 1_297


def test_the_chart_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = run("--chart", tmp_path / "first").output.splitlines()
    assert lines[-2:] == [str(tmp_path / "first.png"), str(tmp_path / "first.svg")]
    run("--chart", tmp_path / "second")
    first, second = ((tmp_path / f"{name}.svg").read_bytes() for name in ("first", "second"))
    assert first == second
    assert b"<svg" in first
    assert (tmp_path / "first.png").read_bytes().startswith(b"\x89PNG")
    error = run("--chart", tmp_path / "none" / "chart").exception
    assert isinstance(error, Fault)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run("--chart", tmp_path / "chart")
    assert isinstance(result.exception, Unavailable)
    assert "bnnchain[bench]" in str(result.exception)
    assert result.output == ""  # said before the search, not after


def test_an_interrupt_keeps_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    select, calls = ShapeSearch._select, []

    def interrupted(self: ShapeSearch, population: Any) -> list[int]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return select(self, population)

    monkeypatch.setattr(ShapeSearch, "_select", interrupted)
    result = run("--generations", 9)
    assert result.exit_code == 0
    assert "search ended early" in result.output
    assert "of validation" in result.output
    calls[:] = [1]
    assert run().exit_code == 1  # before the first generation there is nothing to keep


def test_finalists_span_the_front() -> None:
    front: list[Any] = list(range(10))
    assert choose_finalists(front, 4) == [0, 3, 6, 9]
    assert choose_finalists(front, 1) == [0]
    assert choose_finalists(front, 10) == choose_finalists(front, 99) == front


def test_architectures_by_name_in_writing_and_by_file(tmp_path: Path) -> None:
    assert find_architecture("cnn-4k") == ZOO["cnn-4k"]
    assert find_architecture("28x28x1-conv4p-conv16p-conv24p-dense10") == ZOO["cnn-4k"]
    refused = {"cnn-5k": "unknown-architecture", "": "unknown-architecture", "8x8x4-conv9": "bad-architecture"}
    for text, code in refused.items():
        with pytest.raises(Invalid) as caught:
            find_architecture(text)
        assert caught.value.code == code
    (tmp_path / "not.bnn").write_bytes(b"no model")
    with pytest.raises(BnnchainError):
        find_architecture(str(tmp_path / "not.bnn"))


def test_a_shape_in_writing_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shape = "8x8x4-conv5p-dense10"
    arguments = ["--dataset", "digits", "--architecture", shape, "--trainer", "device", "--epochs", "1"]
    result = CliRunner().invoke(train, arguments)
    assert result.exit_code == 0, result.exception
    assert read_model(tmp_path / f"{shape}.bnn")[0].architecture == find_architecture(shape)


def test_mining_refuses_a_shape_before_it_makes_a_chain(tmp_path: Path) -> None:
    result = CliRunner().invoke(mine, ["--home", str(tmp_path / "chain"), "--architecture", "cnn-5k"])
    assert (result.exit_code, "unknown-architecture" in result.output) == (2, True)
    assert not (tmp_path / "chain").exists()
