from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bnnchain.cli.dataset import dataset
from bnnchain_kernels.errors import BnnchainError, Fault, Invalid, Unavailable

MNIST_DIRECTORY = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "mnist"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BNNCHAIN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(dataset, arguments)


def error_of(result: Result) -> BnnchainError:
    assert isinstance(result.exception, BnnchainError), result.output
    assert "\n" not in str(result.exception)
    return result.exception


def test_list_names_every_set_and_its_state(home: Path) -> None:
    result = run("list")
    assert result.exit_code == 0
    assert [line.split() for line in result.output.splitlines()] == [
        ["digits", "embedded"],
        ["mnist", "not", "here;", "run:", "bnnchain", "dataset", "fetch", "mnist"],
    ]
    assert not home.exists()


def test_list_as_json(home: Path) -> None:
    rows = json.loads(run("list", "--json", "-").stdout)["datasets"]
    assert [row["name"] for row in rows] == ["digits", "mnist"]


def test_show_prints_manifest_and_classes(home: Path) -> None:
    lines = dict(line.split(maxsplit=1) for line in run("show", "digits").output.splitlines())
    assert lines["id"] == "5f8c17ebe401466b0bc232c4cc73e3d8d42a3b662e83d8387a82d39c873dd0a2"
    assert lines["pool_per_class"] == "128 132 127 133 131 132 131 129 124 130"
    assert lines["thresholds"] == "3 7 11 15"
    assert lines["licence"] == "CC-BY-4.0"


def test_show_writes_json_to_a_file(home: Path, tmp_path: Path) -> None:
    result = run("show", "digits", "--json", str(tmp_path / "out.json"))
    assert result.exit_code == 0
    assert "pool_size          1297" in result.output
    shown = json.loads((tmp_path / "out.json").read_text())
    assert (shown["pool_size"], shown["hidden_size"], shown["pool_chunks"]) == (1297, 500, 1)
    assert sum(shown["pool_per_class"]) == 1297
    assert shown == json.loads(run("show", "digits", "--json", "-").stdout)


def test_json_that_cannot_be_written_is_our_fault(home: Path, tmp_path: Path) -> None:
    error = error_of(run("show", "digits", "--json", str(tmp_path)))
    assert isinstance(error, Fault)
    assert "cannot write" in str(error)


def test_errors_reach_the_main_function_in_one_line(home: Path, tmp_path: Path) -> None:
    missing = error_of(run("show", "mnist"))
    assert isinstance(missing, Unavailable)
    assert "bnnchain dataset fetch mnist" in str(missing)
    embedded = error_of(run("show", "digits", "--data", str(tmp_path)))
    assert isinstance(embedded, Invalid)
    assert embedded.code == "bad-dataset"
    assert isinstance(error_of(run("show", "fashion", "--data", str(tmp_path))), Unavailable)
    assert isinstance(error_of(run("fetch", "fashion")), Unavailable)
    mirror = error_of(run("fetch", "mnist", "--mirror", "file:///x/"))
    assert isinstance(mirror, Invalid)
    assert mirror.code == "bad-mirror"


def test_fetching_what_is_embedded_says_so(home: Path) -> None:
    result = run("fetch", "digits")
    assert (result.exit_code, result.output) == (0, "digits is embedded, there is nothing to fetch\n")


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.mark.skipif(not MNIST_DIRECTORY.is_dir(), reason="MNIST is not beside the repository")
def test_fetch_brings_mnist_home(home: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(MNIST_DIRECTORY)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        result = run("fetch", "mnist", "--mirror", f"http://127.0.0.1:{server.server_address[1]}/")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert result.exit_code == 0, result.exception
    assert "6942af9a49d9abdd37fd3139471fd180657fb4e44b374afc4a74c3d983fe663b" in result.output
    assert sorted(path.name for path in (home / "datasets" / "mnist").glob("*.gz*")) == sorted(
        path.name for path in MNIST_DIRECTORY.glob("*.gz")
    )
    assert f"in {home / 'datasets' / 'mnist'}" in run("list").output
    assert run("show", "mnist").exit_code == 0
