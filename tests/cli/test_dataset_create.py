from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bnnchain.cli.dataset import dataset
from bnnchain.datasets.directory import read_directory
from bnnchain_kernels.errors import BnnchainError, Invalid, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

PAPERS = ("--licence", "CC0-1.0", "--origin", "tests")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BNNCHAIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(1).integers(0, 256, (60, 7, 6)).astype(np.uint8)
    pixels[1] = pixels[4] = pixels[7]
    np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(60) % 3)
    return tmp_path / "set.npz"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(dataset, [str(argument) for argument in arguments])


def error_of(result: Result) -> BnnchainError:
    assert isinstance(result.exception, BnnchainError), result.output
    assert "\n" not in str(result.exception)
    return result.exception


def test_a_created_set_is_shown_by_its_name_alone(home: Path, npz: Path) -> None:
    made = run("create", "mine", npz, *PAPERS, "--hidden", 20, "--json", "-")
    assert made.exit_code == 0, made.output
    said = json.loads(made.stdout)
    across = sum(line.endswith("across the split") for line in said["dropped"])
    assert len(said["dropped"]) == 2
    assert said["pool_size"] + said["hidden_size"] == 58
    assert 12 - 2 <= said["hidden_size"] <= 12 - across
    assert said["least_accuracy_bp"] == -(-said["majority"] * 10_000 // said["pool_size"]) + 1_000
    shown = json.loads(run("show", "mine", "--json", "-").stdout)
    assert shown["id"] == said["id"]
    assert max(shown["pool_per_class"]) == said["majority"]
    assert (shown["licence"], shown["origin"]) == ("CC0-1.0", "tests")
    assert (home / "datasets" / "mine" / "salt.bin").exists()


def test_what_people_are_told(home: Path, npz: Path, tmp_path: Path) -> None:
    lines = run("create", "mine", npz, *PAPERS, "--out", tmp_path / "out").output.splitlines()
    titles = [line.split()[0] for line in lines]
    assert titles == ["data", "images", "pool", "held", "majority", "dropped", "dropped", "written"]
    assert "state at least 4" in lines[4]
    assert run("show", "mine", "--data", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize(
    ("option", "thresholds"), [("100", [100]), ("50,100,200", [50, 100, 200]), ("otsu", 1), ("quantiles:3", 3)]
)
def test_thresholds_are_stated_or_chosen(
    home: Path, npz: Path, tmp_path: Path, option: str, thresholds: object
) -> None:
    assert run("create", "mine", npz, *PAPERS, "--out", tmp_path / "out", "--thresholds", option).exit_code == 0
    found = list(read_directory(tmp_path / "out").manifest.thresholds)
    assert found == thresholds if isinstance(thresholds, list) else len(found) == thresholds


@pytest.mark.parametrize(
    "option",
    [
        "0",
        "256",
        "9,9",
        "9,8",
        "",
        ",",
        "1,",
        "-1",
        "x",
        "quantiles",
        "quantiles:1",
        "quantiles:65",
        "quantiles:x",
        "²",
    ],
)
def test_other_thresholds_are_a_usage_error(home: Path, npz: Path, option: str) -> None:
    result = run("create", "mine", npz, *PAPERS, "--thresholds", option)
    assert (result.exit_code, home.exists()) == (2, False)
    assert "Invalid value" in result.output


@pytest.mark.parametrize("option", ["28", "0x5", "5x", "257x1", "5x5x5", "axb", "-1x3", "²x3"])
def test_other_sizes_are_a_usage_error(home: Path, npz: Path, option: str) -> None:
    assert run("create", "mine", npz, *PAPERS, "--size", option).exit_code == 2


def test_licence_and_origin_are_required(home: Path, npz: Path) -> None:
    assert run("create", "mine", npz, "--origin", "tests").exit_code == 2
    assert run("create", "mine", npz, "--licence", "CC0-1.0").exit_code == 2


def test_arrays_are_taken_as_they_are(home: Path, npz: Path) -> None:
    result = run("create", "mine", npz, *PAPERS, "--size", "5x5")
    assert (result.exit_code, "folders of pictures" in result.output) == (2, True)


def test_a_name_that_is_none_writes_nothing(home: Path, npz: Path) -> None:
    for name in ("../mine", "Mine", "mine/other"):
        error = error_of(run("create", name, npz, *PAPERS))
        assert isinstance(error, Invalid)
        assert error.code == "bad-manifest"
    assert not home.exists()


def test_a_second_set_of_one_name_is_refused(home: Path, npz: Path) -> None:
    assert run("create", "mine", npz, *PAPERS).exit_code == 0
    error = error_of(run("create", "mine", npz, *PAPERS))
    assert "nothing is overwritten" in str(error)


def test_a_folder_of_pictures(home: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    rng = np.random.default_rng(2)
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(8):
            image.fromarray(rng.integers(0, 256, (9, 9)).astype(np.uint8)).save(
                tmp_path / "set" / name / f"{index}.png"
            )
    (tmp_path / "set" / "a" / "notes.txt").write_text("")
    made = run("create", "mine", tmp_path / "set", *PAPERS, "--size", "6x6", "--hidden", 25)
    assert made.exit_code == 0, made.output
    assert "skipped   'a/notes.txt': not a picture" in made.output
    loaded = read_directory(home / "datasets" / "mine")
    assert (loaded.manifest.pool_size, loaded.manifest.hidden_size) == (12, 4)
    assert (loaded.manifest.height, loaded.manifest.classes) == (6, 2)
    assert (home / "datasets" / "mine" / "classes.txt").read_text() == "a\nb\n"


def test_a_chain_begins_with_a_created_set(home: Path, npz: Path, tmp_path: Path) -> None:
    from bnnchain.cli.init import init

    assert run("create", "mine", npz, *PAPERS, "--out", tmp_path / "out").exit_code == 0
    result = CliRunner().invoke(init, ["--dataset", "mine", "--data", str(tmp_path / "out")])
    assert result.exit_code == 0, result.exception
    assert "data set mine" in result.output


def test_a_missing_source_is_a_usage_error_and_a_broken_one_is_refused(home: Path, tmp_path: Path) -> None:
    assert run("create", "mine", tmp_path / "none", *PAPERS).exit_code == 2
    (tmp_path / "set.npz").write_text("text")
    error = error_of(run("create", "mine", tmp_path / "set.npz", *PAPERS))
    assert not isinstance(error, Unavailable)
    assert not home.exists()
