"""The founder's side of Larq: what is said over the pipe, and a training process that does what it should not.

Nothing here needs TensorFlow: other programs stand for the training process.  `tests/train` has the real one.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from random_networks import random_architecture, random_model, random_samples

from bnnchain.bnn.encoding import encode_model, model_hash
from bnnchain.bnn.zoo import architecture
from bnnchain.cli import train as cli_train
from bnnchain.datasets.digits import load_digits
from bnnchain.mining import founders
from bnnchain.mining.larq import founder as larq_founder
from bnnchain.mining.larq import process as larq_process
from bnnchain.mining.larq.founder import LarqFounder
from bnnchain.mining.larq.messages import (
    MAX_CHECKPOINT_BYTES,
    Checkpoint,
    Request,
    decode_checkpoint,
    decode_request,
    encode_checkpoint,
    encode_request,
    read_frame,
    write_frame,
)
from bnnchain.mining.larq.process import LAST_LINES, TrainingProcess
from bnnchain_kernels.errors import Fault, Invalid, Unavailable
from bnnchain_kernels.evaluator import Samples, count_correct
from bnnchain_kernels.model import Architecture, Conv3x3, Dense
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.mining.founders import FoundProgress

SHAPE = Architecture(8, 8, 4, (Conv3x3(3, pool=True), Dense(10)))

STAND_IN = """
import os, sys, time
import numpy as np
from bnnchain.mining.genesis import random_model
from bnnchain.mining.larq.messages import *
request = decode_request(read_frame(sys.stdin.buffer, MAX_REQUEST_BYTES))
def send(step, word):
    model = random_model(request.architecture, word)
    write_frame(sys.stdout.buffer, encode_checkpoint(Checkpoint(step, 4, 1 / step, model)))
"""
"""A training process that knows how to talk, and sends random models."""


def stand_in(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", STAND_IN + program)


def request(seed: int = 1) -> Request:
    return Request(SHAPE, load_digits().pool, seed, 3, 2)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let a program stand for the training process of an installed Larq."""

    def use(program: str) -> None:
        monkeypatch.setattr(larq_founder, "is_installed", lambda: True)
        monkeypatch.setattr(TrainingProcess.__init__, "__defaults__", (stand_in(program),))

    return use


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(larq_founder, "PACKAGES", ("json", "no_such_package_as_this"))


@pytest.mark.parametrize("seed", range(8))
def test_messages_keep_everything(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = random_architecture(rng)
    samples = random_samples(rng, shape, int(rng.integers(1, 40)))
    sent = Request(shape, samples, int(rng.integers(0, 1 << 63)) * 2 + 1, 7, 3)
    got = decode_request(encode_request(sent))
    assert (got.architecture, got.seed, got.max_epochs, got.threads) == (shape, sent.seed, 7, 3)
    np.testing.assert_array_equal(got.samples.images, samples.images)
    np.testing.assert_array_equal(got.samples.labels, samples.labels)

    model = random_model(rng, shape)
    checkpoint = decode_checkpoint(encode_checkpoint(Checkpoint(5, 9, 0.1, model)))
    assert (checkpoint.step, checkpoint.steps_per_epoch, checkpoint.loss) == (5, 9, 0.1)
    assert encode_model(checkpoint.model) == encode_model(model)


def test_messages_that_are_cut_off_are_refused() -> None:
    data = encode_request(request())
    for size in (0, 3, 20, len(data) - 1):
        with pytest.raises(Invalid, match="bad-"):
            decode_request(data[:size])
    with pytest.raises(Invalid, match="trailing bytes"):
        decode_request(data + b"\0")
    checkpoint = encode_checkpoint(Checkpoint(1, 1, 0.0, random_model(np.random.default_rng(1), SHAPE)))
    for size in (0, 7, 24, len(checkpoint) - 1):
        with pytest.raises(Invalid, match="bad-"):
            decode_checkpoint(checkpoint[:size])


def test_frames() -> None:
    stream = io.BytesIO()
    write_frame(stream, b"one")
    write_frame(stream, b"")
    stream.seek(0)
    assert [read_frame(stream, 3) for _ in range(3)] == [b"one", b"", None]
    for data in (b"\3", b"\3\0\0\0\0\0\0\0ab", b"\xff" * 8, b"\4\0\0\0\0\0\0\0abcd"):
        with pytest.raises(Invalid, match="bad-encoding"):
            read_frame(io.BytesIO(data), 3)


def test_checkpoints_come_in_order_and_end() -> None:
    program = "[send(step, bytes([step])) for step in range(1, 9)]"
    with TrainingProcess(request(), stand_in(program)) as process:
        steps = [checkpoint.step for checkpoint in process.checkpoints(0.05) if checkpoint is not None]
    assert steps == list(range(1, 9))


@pytest.mark.parametrize(
    ("program", "wanted"),
    [
        ("send(1, b''); print('no memory left', file=sys.stderr); sys.exit(3)", "ended with code 3.*no memory left"),
        ("raise RuntimeError('lost my way')", "ended with code 1.*RuntimeError: lost my way"),
        ("os.kill(os.getpid(), 9)", "ended by signal 9"),
        ("os.write(1, b'WARNING: hello from a library')", "broke its protocol.*frame length"),
        ("os.write(1, b'\\4' + bytes(7) + b'ab')", "broke its protocol.*truncated frame"),
        (f"os.write(1, ({MAX_CHECKPOINT_BYTES} + 1).to_bytes(8, 'little'))", "broke its protocol.*frame length"),
        ("write_frame(sys.stdout.buffer, bytes(60))", "broke its protocol.*bad-"),
    ],
)
def test_a_process_that_fails_is_a_fault_with_its_last_lines(program: str, wanted: str) -> None:
    with TrainingProcess(request(), stand_in(program)) as process, pytest.raises(Fault, match=wanted):
        for _ in process.checkpoints(0.05):
            pass


def test_a_process_that_dies_before_it_reads_is_a_fault() -> None:
    command = (sys.executable, "-c", "import sys; sys.exit('cannot begin')")
    with TrainingProcess(request(), command) as process, pytest.raises(Fault, match="cannot begin"):
        for _ in process.checkpoints(0.05):
            pass


def test_a_command_that_does_not_exist_is_a_fault() -> None:
    with pytest.raises(Fault, match="cannot start"), TrainingProcess(request(), ("/no/such/program",)):
        pass


def test_only_the_last_lines_are_kept() -> None:
    program = "[print('line', number, 'x' * 5000, file=sys.stderr) for number in range(500)]; sys.exit(1)"
    with TrainingProcess(request(), stand_in(program)) as process, pytest.raises(Fault) as raised:
        for _ in process.checkpoints(0.05):
            pass
    assert "line 0 " not in str(raised.value)
    assert len(str(raised.value)) < 500 * (LAST_LINES + 1)


def test_leaving_kills_a_process_that_hangs() -> None:
    started = time.monotonic()
    with TrainingProcess(request(), stand_in("time.sleep(600)")) as process:
        pid = process.pid
        assert next(process.checkpoints(0.05)) is None
    assert time.monotonic() - started < 30
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_leaving_does_not_wait_for_a_process_that_sends_without_end() -> None:
    with TrainingProcess(request(), stand_in("\nwhile True: send(1, b'')")) as process:
        assert next(each for each in process.checkpoints(0.05) if each is not None).step == 1
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_the_best_model_is_kept_with_its_exact_count(installed: Callable[[str], None]) -> None:
    installed("[send(step, bytes([step])) for step in range(1, 13)]")
    pool = load_digits().pool
    seen: list[FoundProgress] = []
    founded = LarqFounder().found(SHAPE, pool, ReferenceEvaluator(pool), seed=5, max_epochs=3, on_progress=seen.append)
    assert [progress.epochs for progress in seen] == [step / 4 for step in range(1, 13)]
    assert seen[1].loss == 0.5
    assert len({progress.correct for progress in seen}) > 1
    assert founded.correct == count_correct(ReferenceEvaluator(pool), founded.model, len(pool))
    assert founded.correct >= max(progress.correct for progress in seen)
    assert founded.correct == seen[-1].best_correct
    assert (founded.epochs, founded.pool_size) == (3, len(pool))


def test_training_stops_at_the_target(installed: Callable[[str], None]) -> None:
    installed("[send(step, bytes([step])) for step in range(1, 13)]; time.sleep(600)")
    pool = load_digits().pool
    seen: list[FoundProgress] = []
    LarqFounder().found(
        SHAPE, pool, ReferenceEvaluator(pool), seed=5, max_epochs=3, target_correct=1, on_progress=seen.append
    )
    assert len(seen) == 1


def test_stopped_before_the_first_count_there_is_an_untrained_model(installed: Callable[[str], None]) -> None:
    installed("time.sleep(600)")
    pool = load_digits().pool
    started = time.monotonic()
    found = [
        LarqFounder().found(SHAPE, pool, ReferenceEvaluator(pool), seed=seed, max_epochs=3, should_stop=lambda: True)
        for seed in (1, 1, 2)
    ]
    assert time.monotonic() - started < 30
    assert found[0].epochs == 0
    assert found[0].correct == count_correct(ReferenceEvaluator(pool), found[0].model, len(pool))
    hashes = [model_hash(founded.model) for founded in found]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_process_rests_while_it_is_asked_whether_to_stop(installed: Callable[[str], None]) -> None:
    # The stand-in answers each word of its founder with a checkpoint: rest, go on, rest, ...
    installed("\nfor step in range(1, 9): assert sys.stdin.buffer.read(1) == [b'g', b'r'][step % 2]; send(step, b'')")
    pool = load_digits().pool
    founded = LarqFounder().found(
        SHAPE, pool, ReferenceEvaluator(pool), seed=1, max_epochs=2, should_stop=lambda: False
    )
    assert founded.epochs == 2


def test_a_crash_reaches_the_caller_as_a_fault(installed: Callable[[str], None]) -> None:
    installed("send(1, b''); sys.exit('out of memory')")
    pool = load_digits().pool
    with pytest.raises(Fault, match="out of memory"):
        LarqFounder().found(SHAPE, pool, ReferenceEvaluator(pool), seed=1, max_epochs=1)


@pytest.mark.parametrize("options", [{"max_epochs": 0}, {"max_epochs": 1, "target_correct": 1298}])
def test_requests_that_make_no_sense(installed: Callable[[str], None], options: dict[str, int]) -> None:
    installed("raise AssertionError")
    pool = load_digits().pool
    with pytest.raises(Invalid, match="bad-training"):
        LarqFounder().found(SHAPE, pool, ReferenceEvaluator(pool), seed=1, **options)


def test_shapes_that_do_not_fit(installed: Callable[[str], None]) -> None:
    installed("raise AssertionError")
    pool = load_digits().pool
    with pytest.raises(Invalid, match="bad-architecture"):
        LarqFounder().found(architecture("cnn-4k"), pool, ReferenceEvaluator(pool), seed=1, max_epochs=1)
    large = Architecture(8, 8, 4, (Dense(4096), Dense(4096), Dense(10)))
    with pytest.raises(Invalid, match=r"bad-architecture.*no block could carry it"):
        LarqFounder().found(large, pool, ReferenceEvaluator(pool), seed=1, max_epochs=1)
    empty = Samples(8, 8, 4, 10, pool.images[:0], pool.labels[:0])
    with pytest.raises(Invalid, match="bad-training"):
        LarqFounder().found(SHAPE, empty, ReferenceEvaluator(empty), seed=1, max_epochs=1)


@pytest.mark.usefixtures("not_installed")
def test_without_the_extra_one_line_names_it() -> None:
    with pytest.raises(Unavailable, match=r"^larq is not installed: pip install 'bnnchain\[train\]'"):
        LarqFounder()
    with pytest.raises(Unavailable, match=r"bnnchain\[train\]"):
        founders.select_founder("larq", 2)
    result = CliRunner().invoke(cli_train.train, ["--dataset", "digits", "--architecture", "cnn-digits"])
    assert isinstance(result.exception, Unavailable)


@pytest.mark.usefixtures("not_installed")
def test_auto_is_the_device_where_larq_is_not_installed() -> None:
    assert founders.select_founder("auto", 2).name == "device"


def test_founders_by_name(installed: Callable[[str], None]) -> None:
    installed("")
    assert founders.select_founder("auto", 2).name == "larq"
    assert founders.select_founder("larq", 2).name == "larq"
    assert founders.select_founder("device", 2).name == "device"
    with pytest.raises(Invalid, match="unknown-founder"):
        founders.select_founder("keras", 2)


def test_the_founder_imports_no_tensorflow() -> None:
    program = (
        "import sys, bnnchain.node, bnnchain.cli.train, bnnchain.mining.larq.founder as founder\n"
        "founder.is_installed()\n"
        "print(*(name for name in ('tensorflow', 'tf_keras', 'keras', 'larq') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == []


def test_the_command_is_the_worker() -> None:
    assert larq_process.COMMAND[1:] == ("-m", "bnnchain.mining.larq.worker")
