"""`bnnchain train` with the device's trainer: the file it writes is the model it counted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from click.testing import CliRunner

from bnnchain.bnn.encoding import model_hash
from bnnchain.bnn.zoo import architecture
from bnnchain.cli.train import train
from bnnchain.datasets.digits import load_digits
from bnnchain.exchange.files import read_model
from bnnchain_kernels.errors import Fault, Invalid, Unavailable
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

DIGITS = ["--dataset", "digits", "--architecture", "cnn-digits", "--trainer", "device"]


def test_the_file_holds_the_model_that_was_counted(tmp_path: Path) -> None:
    out, report_file = tmp_path / "model.bnn", tmp_path / "report.json"
    arguments = [*DIGITS, "--epochs", "3", "--seed", "4", "--out", str(out), "--json", str(report_file)]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    model, papers = read_model(out)
    report, digits = json.loads(report_file.read_text()), load_digits()
    assert model.architecture == architecture("cnn-digits")
    assert model_hash(model).hex() == report["hash"] == papers.model_hash
    for name, samples in (("pool", digits.pool), ("heldout", digits.heldout)):
        correct = count_correct(ReferenceEvaluator(samples), model, len(samples))
        assert report[f"{name}_correct"] == correct
        assert f"{correct / len(samples):.2%} of the {name.replace('heldout', 'held-out')}" in result.output
    assert (papers.correct, papers.total) == (report["pool_correct"], len(digits.pool))
    assert papers.dataset_id == digits.manifest.dataset_id.hex()
    assert report["wire_bytes"] == out.stat().st_size
    assert (report["trainer"], report["seed"], report["epochs"]) == ("device", 4, 3)
    assert "epoch 3 of 3: loss" in result.output


def test_the_seed_decides_the_model(tmp_path: Path) -> None:
    files = [tmp_path / str(index) for index in range(3)]
    for file, seed in zip(files, ("4", "4", "5"), strict=True):
        CliRunner().invoke(
            train, [*DIGITS, "--epochs", "1", "--seed", seed, "--out", str(file)], catch_exceptions=False
        )
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()


def test_ctrl_c_keeps_the_best_so_far(tmp_path: Path) -> None:
    out = tmp_path / "model.bnn"
    command = [sys.executable, "-m", "bnnchain", "train", *DIGITS, "--epochs", "9999", "--out", str(out)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("epoch 1 of 9999")
        process.send_signal(signal.SIGINT)
        last = process.stdout.read().splitlines()[-1]
        assert process.wait(60) == 0
    assert last.startswith(f"{out}: ")
    assert read_model(out)[0].architecture == architecture("cnn-digits")


def test_what_is_refused(tmp_path: Path) -> None:
    def error(*arguments: str) -> BaseException | None:
        return CliRunner().invoke(train, list(arguments)).exception

    mnist = ["--dataset", "mnist", "--architecture", "cnn-4k", "--trainer", "device"]
    assert isinstance(error(*mnist, "--data", str(tmp_path)), Unavailable)
    mismatch = error("--dataset", "digits", "--architecture", "cnn-4k", "--trainer", "device")
    assert isinstance(mismatch, Invalid)
    assert mismatch.code == "bad-architecture"
    nowhere = str(tmp_path / "no" / "such" / "directory")
    assert isinstance(error(*DIGITS, "--epochs", "1", "--out", nowhere), Fault)
    for arguments in ([*DIGITS, "--epochs", "0"], ["--architecture", "cnn-9"], ["--dataset", "digits"]):
        assert isinstance(error(*arguments), SystemExit)


def test_without_larq_it_says_so_in_one_line(tmp_path: Path) -> None:
    program = (
        "from bnnchain.mining.larq import founder; founder.PACKAGES = ('no_such_package_as_this',);"
        "from bnnchain.cli import main; main()"
    )
    for command in (["train", "--dataset", "digits", "--architecture", "cnn-digits"], ["mine", "--founder", "larq"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *command, "--home", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 1
        errors = [line for line in done.stderr.splitlines() if not line.startswith("{")]  # beside the log
        assert errors == ["error: larq is not installed: pip install 'bnnchain[train]'"]
