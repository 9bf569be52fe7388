# ruff: noqa: ANN001, ANN201  (fixtures and stand-ins)
from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fpga.emulated_board import EmulatedBoard
from fpga.nets import CNN_DIGITS, draw_architecture, label_by_model, make_model, make_samples

from bnnchain_fpga.boards import accelerated_factory, open_transport
from bnnchain_fpga.compile import DoesNotFit
from bnnchain_fpga.doctor import examine
from bnnchain_fpga.driver import Driver, OverlayFault
from bnnchain_fpga.evaluator import Accelerator, OverlayEvaluator, make_factory
from bnnchain_fpga.fallback import with_fallback
from bnnchain_fpga.golden import check_golden, decode_vector, encode_vector, load_golden
from bnnchain_fpga.registers import OverlayError, Register
from bnnchain_fpga.simulated_board import SimulatedBoard
from bnnchain_kernels.errors import Fault, Invalid, Unavailable
from bnnchain_kernels.model import Architecture, Conv3x3, Dense
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import EvaluatorFactory

SMALL = Architecture(8, 8, 1, (Conv3x3(20, pool=True), Dense(10)))
TOO_LARGE = Architecture(8, 8, 1, (Dense(2048), Dense(1024), Dense(10)))


def prepare(architecture: Architecture, count: int, seed: int = 1):
    rng = np.random.default_rng(seed)
    model = make_model(rng, architecture)
    return model, label_by_model(rng, model, make_samples(rng, architecture, count))


def test_golden_vectors_are_the_reference() -> None:
    vectors = load_golden()
    assert len(vectors) == 3
    for vector in vectors:
        logits = ReferenceEvaluator(vector.samples).logits(vector.model, 0, len(vector.samples))
        assert np.array_equal(logits, vector.logits), vector.name
        assert encode_vector(decode_vector(encode_vector(vector))) == encode_vector(vector)


def test_emulated_overlay_equals_the_reference_on_random_nets() -> None:
    # Compiler, driver and the documented formats, without any RTL.
    driver = Driver(EmulatedBoard())
    for seed in range(60):
        rng = np.random.default_rng(seed)
        architecture = draw_architecture(rng, max_side=10)
        model = make_model(rng, architecture)
        samples = make_samples(rng, architecture, 5)
        accelerator = object.__new__(Accelerator)
        accelerator.lock, accelerator.name, accelerator.driver = threading.Lock(), "fpga-sim", driver
        logits = OverlayEvaluator(accelerator, samples).logits(model, 0, 5)
        assert np.array_equal(logits, ReferenceEvaluator(samples).logits(model, 0, 5)), f"seed {seed}"


@pytest.mark.parametrize("count", [1, 15, 16, 17, 511, 512, 513, 1100])
def test_counts_per_block_and_tails(count: int) -> None:
    model, samples = prepare(SMALL, count)
    evaluator = OverlayEvaluator(Accelerator(EmulatedBoard()), samples)
    reference = ReferenceEvaluator(samples)
    assert np.array_equal(evaluator.correct(model, 0, count), reference.correct(model, 0, count))
    assert evaluator.correct(model, 0, 0).shape == (0,)
    start = count // 3
    assert np.array_equal(evaluator.logits(model, start, count), reference.logits(model, start, count))
    assert evaluator.logits(model, start, start).shape == (0, 10)
    if count > 512:
        assert np.array_equal(evaluator.correct(model, 512, count), reference.correct(model, 512, count))


def test_runs_are_cut_at_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnnchain_fpga.evaluator.MAX_RUN_IMAGES", 100)
    model, samples = prepare(SMALL, 730)
    evaluator = OverlayEvaluator(Accelerator(EmulatedBoard()), samples)
    reference = ReferenceEvaluator(samples)
    assert np.array_equal(evaluator.correct(model, 0, 730), reference.correct(model, 0, 730))
    assert np.array_equal(evaluator.logits(model, 3, 730), reference.logits(model, 3, 730))


def test_bad_ranges_and_foreign_models() -> None:
    model, samples = prepare(SMALL, 40)
    evaluator = OverlayEvaluator(Accelerator(EmulatedBoard()), samples)
    with pytest.raises(ValueError, match="blocks"):
        evaluator.correct(model, 0, 7)
    with pytest.raises(ValueError, match="outside"):
        evaluator.logits(model, 0, 41)
    other, _ = prepare(CNN_DIGITS, 1)
    with pytest.raises(Invalid, match="bad-architecture"):
        evaluator.logits(other, 0, 1)


def test_a_model_is_loaded_once() -> None:
    board = EmulatedBoard()
    model, samples = prepare(SMALL, 40)
    evaluator = OverlayEvaluator(Accelerator(board), samples)
    before = board.loads
    evaluator.correct(model, 0, 40)
    evaluator.logits(model, 0, 40)
    assert board.loads == before + 1


def test_threads_share_one_board() -> None:
    accelerator = Accelerator(EmulatedBoard())
    jobs = [prepare(SMALL, 33, seed) for seed in range(4)]
    results: dict[int, np.ndarray] = {}

    def work(index: int) -> None:
        model, samples = jobs[index]
        for _ in range(5):
            results[index] = OverlayEvaluator(accelerator, samples).logits(model, 0, 33)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, (model, samples) in enumerate(jobs):
        assert np.array_equal(results[index], ReferenceEvaluator(samples).logits(model, 0, 33))


# ---- what goes wrong


@pytest.mark.parametrize(
    ("register", "value", "message"), [(Register.ID, 7, "no BNN overlay"), (Register.VERSION, 2 << 16, "version")]
)
def test_unknown_overlays_are_refused(register: Register, value: int, message: str) -> None:
    board = EmulatedBoard()
    board.registers[register] = value
    with pytest.raises(Fault, match=message):
        Driver(board)


def test_wrong_logits_at_start_are_found() -> None:
    board = EmulatedBoard()

    def flip(words: np.ndarray) -> np.ndarray:
        words = words.copy()
        if words.shape[1] > 1:
            words[-1, 1:] += 2  # the prediction stays right
        return words

    board.corrupt = flip
    with pytest.raises(Fault, match="golden vector"):
        Accelerator(board)


def corrupt_prediction(words: np.ndarray) -> np.ndarray:
    words = words.copy()
    words[0, 0] = (words[0, 0] + 1) % 10
    return words


def corrupt_class(words: np.ndarray) -> np.ndarray:
    words = words.copy()
    words[0, 0] = 200
    return words


@pytest.mark.parametrize("corrupt", [corrupt_prediction, corrupt_class])
def test_an_overlay_that_contradicts_itself_is_a_fault(corrupt) -> None:
    board = EmulatedBoard()
    model, samples = prepare(SMALL, 40)
    evaluator = OverlayEvaluator(Accelerator(board), samples)
    board.corrupt = corrupt
    with pytest.raises(Fault, match="contradicts itself"):
        evaluator.logits(model, 0, 40)


def test_wrong_crc_after_loading_is_a_fault() -> None:
    board = EmulatedBoard()
    model, samples = prepare(SMALL, 4)
    evaluator = OverlayEvaluator(Accelerator(board), samples)
    board._load = lambda packet: None
    with pytest.raises(Fault, match="another model"):
        evaluator.logits(model, 0, 4)


def test_mute_and_failing_boards() -> None:
    board = EmulatedBoard()
    model, samples = prepare(SMALL, 4)
    evaluator = OverlayEvaluator(Accelerator(board), samples)
    board.is_mute = True
    with pytest.raises(Fault, match="did not finish"):
        evaluator.logits(model, 0, 4)
    board.is_mute, board.fail_with = False, OverlayError.WATCHDOG_INPUT
    with pytest.raises(OverlayFault, match="watchdog-input"):
        evaluator.logits(model, 0, 4)
    board.fail_with = 99  # type: ignore[assignment]
    with pytest.raises(Fault, match="unknown error 99"):
        evaluator.logits(model, 0, 4)
    board.fail_with = None
    assert evaluator.logits(model, 0, 4).shape == (4, 10)


# ---- falling back


def cpu(samples):
    return ReferenceEvaluator(samples)


def on(board: EmulatedBoard) -> EvaluatorFactory:
    return make_factory(Accelerator(board))


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_healthy_accelerator_is_used_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    model, samples = prepare(SMALL, 40)
    evaluator = with_fallback(lambda: on(EmulatedBoard()), cpu)(samples)
    assert evaluator.backend == "fpga-sim"
    assert np.array_equal(evaluator.logits(model, 0, 40), ReferenceEvaluator(samples).logits(model, 0, 40))
    assert warnings_in(caplog) == []


def test_a_fault_moves_every_evaluator_to_the_cpu_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    board = EmulatedBoard()
    factory = with_fallback(lambda: on(board), cpu)
    model, samples = prepare(SMALL, 40)
    first, second = factory(samples), factory(samples)
    expected = ReferenceEvaluator(samples)
    assert np.array_equal(first.correct(model, 0, 40), expected.correct(model, 0, 40))
    board.fail_with = OverlayError.WATCHDOG_OUTPUT
    for evaluator in (first, second, factory(samples), first):
        assert np.array_equal(evaluator.correct(model, 0, 40), expected.correct(model, 0, 40))
        assert np.array_equal(evaluator.logits(model, 1, 40), expected.logits(model, 1, 40))
        assert evaluator.backend == "reference"
    assert len(warnings_in(caplog)) == 1
    assert "watchdog-output" in warnings_in(caplog)[0]


def test_a_model_that_does_not_fit_runs_on_the_cpu_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    factory = with_fallback(lambda: on(EmulatedBoard()), cpu)
    model, samples = prepare(TOO_LARGE, 20)
    evaluator = factory(samples)
    assert np.array_equal(evaluator.logits(model, 0, 20), ReferenceEvaluator(samples).logits(model, 0, 20))
    assert evaluator.backend == "fpga-sim"
    assert warnings_in(caplog) == []
    with pytest.raises(DoesNotFit, match="weight words of a bank: 4384, at most 3072"):
        OverlayEvaluator(Accelerator(EmulatedBoard()), samples).logits(model, 0, 20)


def test_a_sender_s_fault_is_not_the_accelerator_s(caplog: pytest.LogCaptureFixture) -> None:
    _, samples = prepare(SMALL, 20)
    other, _ = prepare(CNN_DIGITS, 1)
    evaluator = with_fallback(lambda: on(EmulatedBoard()), cpu)(samples)
    with pytest.raises(Invalid, match="bad-architecture"):
        evaluator.logits(other, 0, 20)
    assert evaluator.backend == "fpga-sim"
    assert warnings_in(caplog) == []


@pytest.mark.parametrize("error", [Unavailable("no board"), Fault("bad golden vector")])
def test_no_usable_board_gives_cpu_evaluators_and_one_warning(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail() -> EvaluatorFactory:
        raise error

    factory = with_fallback(fail, cpu)
    _, samples = prepare(SMALL, 20)
    assert factory(samples).backend == "reference"
    assert factory(samples).backend == "reference"
    assert warnings_in(caplog) == [f"accelerator given up, continuing on the CPU: {error}"]


def test_backend_fpga_without_a_board_falls_back(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path
) -> None:
    monkeypatch.setenv("BNNCHAIN_FPGA_BITSTREAM", str(tmp_path / "missing.bit"))
    model, samples = prepare(SMALL, 20)
    evaluator = with_fallback(accelerated_factory("fpga"), cpu)(samples)
    assert np.array_equal(evaluator.logits(model, 0, 20), ReferenceEvaluator(samples).logits(model, 0, 20))
    assert len(warnings_in(caplog)) == 1


def test_unknown_backend() -> None:
    with pytest.raises(Unavailable, match="fpga or fpga-sim"):
        open_transport("gpu")


def test_simulated_overlay_behind_the_evaluator(simulator) -> None:
    accelerator = Accelerator(SimulatedBoard(simulator))
    model, samples = prepare(CNN_DIGITS, 530)
    evaluator = OverlayEvaluator(accelerator, samples)
    reference = ReferenceEvaluator(samples)
    assert np.array_equal(evaluator.correct(model, 0, 530), reference.correct(model, 0, 530))
    assert np.array_equal(evaluator.logits(model, 100, 200), reference.logits(model, 100, 200))
    assert check_golden(accelerator.driver) == 3
    accelerator.close()


def test_doctor_on_the_simulated_overlay(simulator) -> None:
    report = examine("fpga-sim", lambda backend: SimulatedBoard(simulator))
    assert report.is_healthy, report
    assert report.is_simulated
    assert report.findings[-1].name == "speed"
    assert "simulated on this machine" in report.findings[-1].value
