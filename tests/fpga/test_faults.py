"""Everything that can go wrong on the streams and in a packet: a specific error, no count, the next run right."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fpga.nets import label_by_model, make_model, make_samples

from bnnchain_fpga.driver import Driver, OverlayFault
from bnnchain_fpga.images import pack_images
from bnnchain_fpga.registers import Config, Control, OverlayError, Register, Status
from bnnchain_kernels.errors import Fault
from bnnchain_kernels.evaluator import predict
from bnnchain_kernels.model import Architecture, Conv3x3, Dense
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain_fpga.simulated_board import SimulatedBoard

ARCHITECTURE = Architecture(10, 9, 1, (Conv3x3(20, pool=True), Conv3x3(33), Dense(17), Dense(10)))
WATCHDOG_CYCLES = 3_000


class Bench:
    """A model loaded on a board, ready to run; `expect` runs it once more and holds every result to the reference."""

    def __init__(self, board: SimulatedBoard) -> None:
        rng = np.random.default_rng(7)
        self.board = board
        self.driver = Driver(board)
        self.model = make_model(rng, ARCHITECTURE)
        self.samples = label_by_model(rng, self.model, make_samples(rng, ARCHITECTURE, 37))
        self.compiled = self.driver.compile(self.model)
        self.images = pack_images(self.samples, self.compiled.plan, self.driver.capabilities)
        self.logits = ReferenceEvaluator(self.samples).logits(self.model, 0, len(self.samples))

    def load(self) -> None:
        self.driver.load(self.model, self.compiled)

    def expect_right(self) -> None:
        self.load()
        run = self.driver.run(self.images, want_logits=True)
        assert np.array_equal(run.logits, self.logits)
        assert run.correct == np.count_nonzero(predict(self.logits) == self.samples.labels)

    def start(self, control: Control, words: np.ndarray, *, room: int = 4096, terminated: bool = True) -> None:
        self.received = np.zeros(room, np.uint32)
        self.board.write_register(Register.WATCHDOG, WATCHDOG_CYCLES)
        self.board.write_register(Register.IMAGE_COUNT, len(self.images))
        self.board.write_register(Register.CONFIG, Config.INTERRUPT | Config.PREDICTIONS)
        self.board.start_receive(self.received)
        self.board.start_send(np.ascontiguousarray(words.reshape(-1)), is_terminated=terminated)
        self.board.write_register(Register.CONTROL, control)

    def expect_error(self, error: OverlayError, layer: int = 0) -> None:
        """The error comes within the watchdog's time; nothing of the failed run can be read."""
        assert self.board.wait_interrupt(1), "no interrupt"
        status = self.board.read_register(Register.STATUS)
        assert status & (Status.FAILED | Status.DONE | Status.BUSY) == Status.FAILED
        assert OverlayError(status >> 8 & 0xFF) is error
        assert status >> 16 & 15 == layer
        assert self.board.read_register(Register.CORRECT) == 0
        self.driver.recover()


@pytest.fixture
def bench(board: SimulatedBoard) -> Bench:
    return Bench(board)


@pytest.mark.parametrize(("send", "receive"), [(128, 0), (0, 128), (200, 200), (250, 30), (30, 250)])
def test_stalls_change_nothing(bench: Bench, send: int, receive: int) -> None:
    for seed in range(3):
        bench.board.stall_streams(seed, send, receive)
        bench.expect_right()


def test_truncated_stream_meets_the_watchdog(bench: Bench) -> None:
    bench.load()
    bench.start(Control.RUN, bench.images.reshape(-1)[:-3], terminated=False)
    bench.expect_error(OverlayError.WATCHDOG_INPUT)
    bench.expect_right()


def test_truncated_model_meets_the_watchdog(bench: Bench) -> None:
    bench.load()
    bench.start(Control.LOAD, bench.compiled.packet[:-3], terminated=False)
    bench.expect_error(OverlayError.WATCHDOG_INPUT)
    bench.expect_right()


def test_blocked_output_meets_the_watchdog(bench: Bench) -> None:
    bench.load()
    bench.start(Control.RUN, bench.images, room=5)
    bench.expect_error(OverlayError.WATCHDOG_OUTPUT)
    bench.expect_right()


@pytest.mark.parametrize("keep", [1, 2, 11, 12, 176, -1])
def test_early_tlast(bench: Bench, keep: int) -> None:
    bench.load()
    bench.start(Control.RUN, bench.images.reshape(-1)[:keep])
    bench.expect_error(OverlayError.TLAST_EARLY)
    bench.expect_right()


@pytest.mark.parametrize("keep", [1, 3, 4, 11, 40, -1])
def test_early_tlast_of_a_model(bench: Bench, keep: int) -> None:
    bench.load()
    bench.start(Control.LOAD, bench.compiled.packet[:keep])
    bench.expect_error(OverlayError.TLAST_EARLY)
    bench.expect_right()


def test_oversized_streams(bench: Bench) -> None:
    bench.load()
    bench.start(Control.RUN, np.append(bench.images.reshape(-1), np.uint32(0)))
    bench.expect_error(OverlayError.TLAST_MISSING)
    bench.start(Control.LOAD, np.append(bench.compiled.packet, np.uint32(0)))
    bench.expect_error(OverlayError.TLAST_MISSING)
    bench.expect_right()


def test_rest_of_a_failed_packet_is_drained(bench: Bench) -> None:
    bench.load()
    packet = bench.compiled.packet.copy()
    packet[0] ^= 1
    bench.start(Control.LOAD, packet)
    assert bench.board.wait_interrupt(1)
    bench.board.run_cycles(len(packet) + 10)
    bench.board.start_receive(np.zeros(0, np.uint32))
    bench.board.finish_streams(1)  # a DMA engine would otherwise hang on it
    bench.expect_error(OverlayError.MAGIC)
    bench.expect_right()


def test_label_out_of_range(bench: Bench) -> None:
    for label in (10, 1 << 8, 1 << 31):
        images = bench.images.copy()
        images[20, 0] = label
        bench.load()
        bench.start(Control.RUN, images)
        bench.expect_error(OverlayError.LABEL)
    bench.expect_right()


def test_run_without_a_model_and_without_images(bench: Bench) -> None:
    bench.start(Control.RUN, bench.images)
    bench.expect_error(OverlayError.NO_MODEL)
    bench.load()
    bench.board.write_register(Register.IMAGE_COUNT, 0)
    bench.board.write_register(Register.CONTROL, Control.RUN)
    bench.expect_error(OverlayError.COUNT)
    bench.expect_right()


def test_failed_load_leaves_no_model(bench: Bench) -> None:
    bench.load()
    packet = bench.compiled.packet.copy()
    packet[-1] ^= 1
    bench.start(Control.LOAD, packet)
    bench.expect_error(OverlayError.CRC)
    bench.start(Control.RUN, bench.images)
    bench.expect_error(OverlayError.NO_MODEL)
    bench.expect_right()


@pytest.mark.parametrize("second", [Control.RUN, Control.LOAD])
@pytest.mark.parametrize("after_cycles", [0, 30, 250, 500])
def test_start_while_busy(bench: Bench, second: Control, after_cycles: int) -> None:
    bench.load()
    bench.start(Control.RUN, bench.images)
    bench.board.run_cycles(after_cycles)
    bench.board.write_register(Register.CONTROL, second)
    bench.expect_error(OverlayError.START_BUSY)
    bench.expect_right()


def test_start_while_loading(bench: Bench) -> None:
    bench.start(Control.LOAD, bench.compiled.packet)
    bench.board.run_cycles(40)
    bench.board.write_register(Register.CONTROL, Control.RUN)
    bench.expect_error(OverlayError.START_BUSY)
    bench.expect_right()


@pytest.mark.parametrize("after_cycles", [1, 17, 300, 600, 900, 1200, 1500])
def test_reset_in_the_middle(bench: Bench, after_cycles: int) -> None:
    for control, words in ((Control.RUN, bench.images), (Control.LOAD, bench.compiled.packet)):
        bench.load()
        bench.start(control, words)
        bench.board.run_cycles(after_cycles)
        bench.driver.recover()
        status = bench.board.read_register(Register.STATUS)
        assert status & (Status.BUSY | Status.DONE | Status.FAILED | Status.MODEL_VALID) == 0
        assert bench.board.read_register(Register.CORRECT) == 0
        bench.expect_right()


def test_count_shows_only_when_done(bench: Bench) -> None:
    bench.expect_right()
    before = bench.board.read_register(Register.CORRECT)
    assert before > 0
    bench.start(Control.RUN, bench.images)
    seen = set()
    while not bench.board.read_register(Register.STATUS) & Status.DONE:
        seen.add(bench.board.read_register(Register.CORRECT))
        bench.board.run_cycles(20)
    assert seen == {0}
    assert bench.board.read_register(Register.CORRECT) == before


def resign(packet: np.ndarray) -> np.ndarray:
    """Put right every checksum, so that only the changed field itself can be found wrong."""
    layers = int(packet[1]) & 0xFF
    for index in range(layers):
        at = 3 + 8 * index
        packet[at + 7] = zlib.crc32(packet[at : at + 7].tobytes())
    packet[-1] = zlib.crc32(packet[:-1].tobytes())
    return packet


def set_field(layer: int, word: int, shift: int, bits: int, value: int) -> Callable[[np.ndarray], None]:
    def change(packet: np.ndarray) -> None:
        at = 3 + 8 * layer + word
        mask = ((1 << bits) - 1) << shift
        packet[at] = (int(packet[at]) & ~mask | value << shift) & 0xFFFFFFFF

    return change


OP, SIZE, INPUT, ACTS, BASES, FAN_IN, RESERVED = range(7)
E = OverlayError
BAD_DESCRIPTORS = [
    ("unknown op", 0, set_field(0, OP, 0, 4, 0), E.DESC_OP),
    ("another unknown op", 1, set_field(1, OP, 0, 4, 4), E.DESC_OP),
    ("reserved bit of the op", 0, set_field(0, OP, 6, 1, 1), E.DESC_OP),
    ("reserved high bit of the op", 0, set_field(0, OP, 31, 1, 1), E.DESC_OP),
    ("reserved bit of the width", 0, set_field(0, SIZE, 9, 1, 1), E.DESC_OP),
    ("reserved bit of the height", 0, set_field(0, SIZE, 25, 1, 1), E.DESC_OP),
    ("reserved word", 2, set_field(2, RESERVED, 7, 1, 1), E.DESC_OP),
    ("rows in the second layer", 1, set_field(1, OP, 0, 4, 3), E.DESC_OP),
    ("convolution after dense", 3, set_field(3, OP, 0, 4, 1), E.DESC_OP),
    ("pooled dense", 2, set_field(2, OP, 4, 1, 1), E.DESC_OP),
    ("last too early", 1, set_field(1, OP, 5, 1, 1), E.DESC_OP),
    ("last missing", 3, set_field(3, OP, 5, 1, 0), E.DESC_OP),
    ("no width", 0, set_field(0, SIZE, 0, 9, 0), E.DESC_SIZE),
    ("width under the kernel", 0, set_field(0, SIZE, 0, 9, 3), E.DESC_SIZE),
    ("width over a word", 0, set_field(0, SIZE, 0, 9, 33), E.DESC_SIZE),
    ("height under the kernel", 0, set_field(0, SIZE, 16, 9, 3), E.DESC_SIZE),
    ("height over 256", 0, set_field(0, SIZE, 16, 9, 257), E.DESC_SIZE),
    ("dense with a height", 2, set_field(2, SIZE, 16, 9, 2), E.DESC_SIZE),
    ("dense with a width", 3, set_field(3, SIZE, 0, 9, 2), E.DESC_SIZE),
    ("no input words", 1, set_field(1, INPUT, 0, 16, 0), E.DESC_INPUT),
    ("two words a row", 0, set_field(0, INPUT, 0, 16, 2), E.DESC_INPUT),
    ("too many input words", 1, set_field(1, INPUT, 0, 16, 2), E.DESC_INPUT),
    ("absurdly many input words", 1, set_field(1, INPUT, 0, 16, 0xFFFF), E.DESC_INPUT),
    ("input line over the memory", 1, set_field(1, INPUT, 0, 16, 4000), E.DESC_INPUT),
    ("dense with other inputs", 2, set_field(2, INPUT, 0, 16, 3), E.DESC_INPUT),
    ("first layer not at zero", 0, set_field(0, ACTS, 0, 16, 1), E.DESC_INPUT),
    ("input not where the output was", 1, set_field(1, ACTS, 0, 16, 19), E.DESC_INPUT),
    ("another width than the output's", 1, set_field(1, SIZE, 0, 9, 4), E.DESC_INPUT),
    ("no groups", 0, set_field(0, INPUT, 16, 16, 0), E.DESC_GROUPS),
    ("too many groups", 0, set_field(0, INPUT, 16, 16, 257), E.DESC_GROUPS),
    ("more groups than classes", 3, set_field(3, INPUT, 16, 16, 2), E.DESC_GROUPS),
    ("output over the input buffers", 0, set_field(0, ACTS, 16, 16, 19), E.DESC_ACTIVATIONS),
    ("output over its own input", 1, set_field(1, ACTS, 16, 16, 30), E.DESC_ACTIVATIONS),
    ("output over the end", 1, set_field(1, ACTS, 16, 16, 4095), E.DESC_ACTIVATIONS),
    ("output beyond the end", 1, set_field(1, ACTS, 16, 16, 0xFFFF), E.DESC_ACTIVATIONS),
    ("an output of the last layer", 3, set_field(3, ACTS, 16, 16, 99), E.DESC_ACTIVATIONS),
    ("weights beyond those sent", 3, set_field(3, BASES, 0, 16, 200), E.DESC_WEIGHTS),
    ("more groups than weights", 0, set_field(0, INPUT, 16, 16, 99), E.DESC_WEIGHTS),
    ("thresholds beyond those sent", 2, set_field(2, BASES, 16, 16, 200), E.DESC_THRESHOLDS),
    ("thresholds of the last layer", 3, set_field(3, BASES, 16, 16, 1), E.DESC_THRESHOLDS),
    ("no fan-in", 0, set_field(0, FAN_IN, 0, 32, 0), E.DESC_FAN_IN),
    ("fan-in over its words", 0, set_field(0, FAN_IN, 0, 32, 33), E.DESC_FAN_IN),
    ("absurd fan-in", 3, set_field(3, FAN_IN, 0, 32, 0xFFFFFFFF), E.DESC_FAN_IN),
]


@pytest.mark.parametrize(
    ("layer", "change", "error"), [row[1:] for row in BAD_DESCRIPTORS], ids=[r[0] for r in BAD_DESCRIPTORS]
)
def test_each_bad_descriptor_field(
    bench: Bench, layer: int, change: Callable[[np.ndarray], None], error: OverlayError
) -> None:
    packet = bench.compiled.packet.copy()
    change(packet)
    assert not np.array_equal(packet, bench.compiled.packet)
    bench.start(Control.LOAD, resign(packet))
    bench.expect_error(error, layer)
    bench.expect_right()


def test_descriptor_crc(bench: Bench) -> None:
    for layer in range(4):
        packet = bench.compiled.packet.copy()
        packet[3 + 8 * layer + FAN_IN] ^= 1
        bench.start(Control.LOAD, packet)
        bench.expect_error(OverlayError.DESC_CRC, layer)
    bench.expect_right()


def test_a_flipped_bit_anywhere_is_found(bench: Bench) -> None:
    rng = np.random.default_rng(11)
    for at in rng.integers(0, len(bench.compiled.packet), 40):
        packet = bench.compiled.packet.copy()
        packet[at] ^= np.uint32(1 << int(rng.integers(0, 32)))
        bench.start(Control.LOAD, packet)
        assert bench.board.wait_interrupt(1)
        assert bench.board.read_register(Register.STATUS) & Status.FAILED, f"word {at}"
        bench.driver.recover()
    bench.expect_right()


BAD_HEADERS = [
    (0, 0, OverlayError.MAGIC),
    (1, 0 | 10 << 16, OverlayError.HEADER),
    (1, 17 | 10 << 16, OverlayError.HEADER),
    (1, 4 | 1 << 8 | 10 << 16, OverlayError.HEADER),
    (1, 4 | 1 << 16, OverlayError.HEADER),
    (1, 4 | 257 << 16, OverlayError.HEADER),
    (2, 0 | 4 << 16, OverlayError.HEADER),
    (2, 3073 | 4 << 16, OverlayError.HEADER),
    (2, 100 | 257 << 16, OverlayError.HEADER),
]


@pytest.mark.parametrize(("word", "value", "error"), BAD_HEADERS)
def test_bad_headers(bench: Bench, word: int, value: int, error: OverlayError) -> None:
    packet = bench.compiled.packet.copy()
    packet[word] = value
    bench.start(Control.LOAD, packet)
    bench.expect_error(error)
    bench.expect_right()


def test_the_driver_names_the_error_and_recovers(bench: Bench) -> None:
    images = bench.images.copy()
    images[0, 0] = 99
    bench.load()
    with pytest.raises(OverlayFault, match="label") as caught:
        bench.driver.run(images, want_logits=True)
    assert caught.value.error is OverlayError.LABEL
    bench.expect_right()


def test_registers_refuse_what_is_not_theirs(bench: Bench) -> None:
    for offset in (Register.ID, Register.CORRECT, 0x80, 0xFC):
        with pytest.raises(Fault, match="writing register"):
            bench.board.write_register(offset, 1)
    assert bench.board.read_register(0xF0) == 0
