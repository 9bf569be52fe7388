"""The real training process: it learns, repeats itself, stops at once, and its death is nobody else's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from e2e.processes import NodeProcess, bnnchain, bnnchain_json

from bnnchain.bnn.encoding import encode_model
from bnnchain.bnn.zoo import architecture
from bnnchain.datasets.digits import load_digits
from bnnchain.exchange.files import read_model
from bnnchain.mining.larq.founder import LarqFounder
from bnnchain.mining.larq.messages import Request
from bnnchain.mining.larq.process import TrainingProcess
from bnnchain_kernels.errors import Fault
from bnnchain_kernels.evaluator import count_correct
from bnnchain_kernels.reference import ReferenceEvaluator
from bnnchain_kernels.select import select

if TYPE_CHECKING:
    from bnnchain.mining.founders import FoundedModel, FoundProgress

DIGITS = architecture("cnn-digits")
STOP_S = 2.0
START_TIMEOUT_S = 120


def found(*, seed: int = 3, max_epochs: int = 12, **options: object) -> FoundedModel:
    pool = load_digits().pool
    return LarqFounder().found(DIGITS, pool, select("auto")(pool), seed=seed, max_epochs=max_epochs, **options)  # type: ignore[arg-type]


def child_pids(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in listed.stdout.split()]


def worker_of(pid: int, timeout_s: float = START_TIMEOUT_S) -> int:
    """Return the process that trains for another, once there is one."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        for child in child_pids(pid):
            if b"bnnchain.mining.larq.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                return child
        time.sleep(0.2)
    raise AssertionError("no training process was started")


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_digits_are_learned() -> None:
    seen: list[FoundProgress] = []
    founded = found(on_progress=seen.append)
    pool, heldout = load_digits().pool, load_digits().heldout
    assert founded.correct == count_correct(ReferenceEvaluator(pool), founded.model, len(pool))
    assert founded.correct >= 0.93 * len(pool)
    assert count_correct(ReferenceEvaluator(heldout), founded.model, len(heldout)) >= 0.88 * len(heldout)
    assert founded.epochs == seen[-1].epochs == 12
    assert founded.correct == max(progress.correct for progress in seen)
    assert seen[-1].loss < seen[0].loss / 2


def test_the_seed_decides_the_model() -> None:
    models = [encode_model(found(seed=seed, max_epochs=2).model) for seed in (1, 1, 2)]
    assert models[0] == models[1] != models[2]


def test_training_stops_at_the_target() -> None:
    target = load_digits().pool.labels.size // 2
    founded = found(target_correct=target)
    assert target <= founded.correct < 0.8 * founded.pool_size
    assert founded.epochs < 3


@pytest.mark.parametrize("epochs", [0.0, 0.5])
def test_training_stops_when_told(epochs: float) -> None:
    # At 0.0 TensorFlow is still being loaded, at 0.5 it trains.
    told_at = 0.0
    reached: list[float] = [0.0]

    def should_stop() -> bool:
        nonlocal told_at
        if reached[-1] >= epochs:
            told_at = told_at or time.monotonic()
        return bool(told_at)

    founded = found(
        max_epochs=9999, on_progress=lambda progress: reached.append(progress.epochs), should_stop=should_stop
    )
    assert time.monotonic() - told_at < STOP_S
    assert founded.epochs >= epochs


def test_a_killed_process_is_a_fault() -> None:
    pids: list[int] = []

    def kill(_progress: FoundProgress) -> None:
        if not pids:
            pids.append(worker_of(os.getpid()))
            os.kill(pids[0], signal.SIGKILL)

    with pytest.raises(Fault, match="ended by signal 9"):
        found(max_epochs=9999, on_progress=kill)
    assert not is_alive(pids[0])


def test_a_training_that_cannot_be_is_a_fault_with_its_last_lines() -> None:
    request = Request(DIGITS, load_digits().pool, 1, 1, 2)
    breaking = "import sys; sys.modules['larq'] = None; from bnnchain.mining.larq.worker import main; main()"
    with (
        TrainingProcess(request, (sys.executable, "-c", breaking)) as process,
        pytest.raises(Fault, match=r"ended with code 1.*import of larq halted"),
    ):
        for _ in process.checkpoints(0.2):
            pass


def test_the_founder_never_imports_tensorflow_and_its_end_is_the_workers() -> None:
    program = (
        "import sys\n"
        "from bnnchain.bnn.zoo import architecture\n"
        "from bnnchain.datasets.digits import load_digits\n"
        "from bnnchain.mining.larq.founder import LarqFounder\n"
        "from bnnchain_kernels.reference import ReferenceEvaluator\n"
        "pool = load_digits().pool\n"
        "def tell(_):\n"
        "    print(*({'tensorflow', 'tf_keras', 'keras', 'larq'} & set(sys.modules)), flush=True)\n"
        "LarqFounder().found(architecture('cnn-digits'), pool, ReferenceEvaluator(pool), seed=1, max_epochs=9999,"
        " on_progress=tell)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as founder:
        assert founder.stdout is not None
        assert founder.stdout.readline() == "\n"
        worker = worker_of(founder.pid)
        founder.kill()
        founder.wait(20)
    deadline = time.monotonic() + 10
    while is_alive(worker):
        assert time.monotonic() < deadline, "the training process outlives its founder"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "epochs", "wanted"), [("cnn-4k", 12, 0.90), ("cnn-94k", 4, 0.98)])
def test_mnist(name: str, epochs: int, wanted: float, mnist_directory: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.bnn"
    report = bnnchain_json(
        "train", "--dataset", "mnist", "--architecture", name, "--epochs", str(epochs), "--seed", "1",
        "--data", str(mnist_directory), "--out", str(out), timeout_s=3600,
    )  # fmt: skip
    assert report["trainer"] == "larq"
    assert report["heldout_size"] == 10_000
    assert report["heldout_correct"] >= wanted * 10_000
    assert read_model(out)[0].architecture == architecture(name)


@pytest.mark.timeout(900)
def test_a_node_founds_with_larq_and_outlives_the_death_of_its_trainer(tmp_path: Path) -> None:
    home = tmp_path / "miner"
    bnnchain("init", "--home", str(home))
    with NodeProcess("mine", "--founder", "larq", "--seed", "1", "--blocks", "3", home=home) as node:
        node.wait_ready()
        os.kill(worker_of(node.pid), signal.SIGKILL)
        node.wait_height(3, timeout_s=600)
        assert node.stop() == 0
        said = node.stderr_file.read_text()
    assert "mining failed, trying again: the training process was ended by signal 9" in said
    assert "Traceback" not in said
    bnnchain("verify", "--home", str(home))
