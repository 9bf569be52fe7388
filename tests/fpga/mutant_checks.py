"""What decides whether a simulated overlay is right: random nets, cycles, broken packets, stalls.  Used on mutants."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from fpga.nets import draw_architecture, label_by_model, make_model, make_samples, make_tied_model

from bnnchain_fpga.compile import DoesNotFit
from bnnchain_fpga.cycles import model_throughput
from bnnchain_fpga.driver import Driver
from bnnchain_fpga.images import pack_images
from bnnchain_fpga.registers import Config, Control, OverlayError, Register, Status
from bnnchain_fpga.simulated_board import SimulatedBoard
from bnnchain_kernels.errors import Fault
from bnnchain_kernels.model import Architecture, Conv3x3, Dense
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

NETS = 40
PACKET_SHAPE = Architecture(9, 8, 1, (Conv3x3(5, pool=True), Conv3x3(9), Dense(6), Dense(5)))
NARROW = (
    Architecture(12, 3, 1, (Conv3x3(2), Dense(3))),
    Architecture(9, 4, 1, (Conv3x3(3), Dense(5))),
    Architecture(10, 4, 1, (Conv3x3(4, pool=True), Dense(5))),
)
"""Bands shorter than the prefetch of the next."""


def find_difference(library: Path, nets: int = NETS) -> str | None:
    """Return the first way in which this simulator is wrong, or None."""
    try:
        return (
            _check_nets(library, nets) or _check_stalls(library) or _check_packets(library) or _check_control(library)
        )
    except Fault as fault:
        return f"fault: {fault}"


def _run(driver: Driver, seed: int, architecture: Architecture, *, tied: bool) -> str | None:
    rng = np.random.default_rng([seed, 1])
    model = (make_tied_model if tied else make_model)(rng, architecture)
    samples = label_by_model(rng, model, make_samples(rng, architecture, int(rng.integers(1, 12))))
    try:
        compiled = driver.compile(model)
    except DoesNotFit:
        return None
    driver.load(model, compiled)
    run = driver.run(pack_images(samples, compiled.plan, driver.capabilities), want_logits=True)
    logits = ReferenceEvaluator(samples).logits(model, 0, len(samples))
    if not np.array_equal(run.logits, logits):
        return f"logits of net {seed}"
    if not np.array_equal(run.predictions, logits.argmax(axis=1)):
        return f"predictions of net {seed}"
    layers = model_throughput(compiled.plan, driver.capabilities).layers
    if driver.layer_cycles(len(layers)) != tuple(layer.modelled for layer in layers):
        return f"cycles of net {seed}"
    return None


def _check_nets(library: Path, nets: int) -> str | None:
    driver = Driver(SimulatedBoard(library))
    for seed in range(nets):
        rng = np.random.default_rng(seed)
        architecture = draw_architecture(rng, max_side=9, max_channels=20, max_classes=20)
        difference = _run(driver, seed, architecture, tied=seed % 3 == 0)
        if difference:
            return difference
    for seed, architecture in enumerate(NARROW):
        difference = _run(driver, seed, architecture, tied=False)
        if difference:
            return f"narrow {difference}"
    return None


def _check_stalls(library: Path) -> str | None:
    board = SimulatedBoard(library)
    driver = Driver(board)
    for seed in range(6):
        # A slow reader fills the result banks, a fast sender the input buffers.
        board.stall_streams(seed, 0 if seed % 2 else 200, 235)
        for shape in (PACKET_SHAPE, Architecture(4, 4, 1, (Dense(3),)), Architecture(8, 8, 1, (Conv3x3(5), Dense(7)))):
            difference = _run(driver, seed, shape, tied=False)
            if difference:
                return f"stalled {difference}"
    return None


class _Packets:
    def __init__(self, library: Path) -> None:
        rng = np.random.default_rng(5)
        self.board = SimulatedBoard(library)
        self.driver = Driver(self.board)
        self.model = make_model(rng, PACKET_SHAPE)
        samples = make_samples(rng, PACKET_SHAPE, 7)
        self.compiled = self.driver.compile(self.model)
        self.images = pack_images(samples, self.compiled.plan, self.driver.capabilities)
        logits = ReferenceEvaluator(samples).logits(self.model, 0, 7)
        self.images[:, 0] = logits.argmax(axis=1)  # all right, so that a stale count shows

    def start(self, control: Control, words: np.ndarray, *, terminated: bool = True, send_first: bool = True) -> None:
        self.received = np.zeros(4096, np.uint32)
        self.board.write_register(Register.WATCHDOG, 2000)
        self.board.write_register(Register.IMAGE_COUNT, len(self.images))
        self.board.write_register(Register.CONFIG, Config.INTERRUPT | Config.PREDICTIONS)
        self.board.start_receive(self.received)
        if not send_first:
            self.board.write_register(Register.CONTROL, control)
        self.board.start_send(np.ascontiguousarray(words.reshape(-1)), is_terminated=terminated)
        if send_first:
            self.board.write_register(Register.CONTROL, control)

    def answer(self) -> OverlayError | None:
        """The error of the operation under way, NONE if it ended well, None if it never ended."""
        if not self.board.wait_interrupt(1):
            return None
        return OverlayError(self.board.read_register(Register.STATUS) >> 8 & 0xFF)

    def runs_right(self) -> bool:
        self.driver.recover()
        self.driver.load(self.model, self.compiled)
        return self.driver.run(self.images, want_logits=False).correct == len(self.images)


def _resign(packet: np.ndarray) -> np.ndarray:
    for at in range(3, 3 + 8 * len(PACKET_SHAPE.layers), 8):
        packet[at + 7] = zlib.crc32(packet[at : at + 7].tobytes())
    packet[-1] = zlib.crc32(packet[:-1].tobytes())
    return packet


def _check_packets(library: Path) -> str | None:
    bench = _Packets(library)
    good = bench.compiled.packet
    changes = [  # (layer, word, new value, error)
        (1, 3, (int(good[3 + 8 + 3]) & ~0xFFFF) + 19, OverlayError.DESC_INPUT),
        (
            1,
            3,
            int(good[3 + 8 + 3]) & 0xFFFF | ((int(good[3 + 8 + 3]) & 0xFFFF) + 1) << 16,
            OverlayError.DESC_ACTIVATIONS,
        ),
        (0, 3, 5 << 16, OverlayError.DESC_ACTIVATIONS),
        (3, 4, 500, OverlayError.DESC_WEIGHTS),
        (0, 5, 99, OverlayError.DESC_FAN_IN),
        (2, 6, 1, OverlayError.DESC_OP),
        (0, 1, 9 << 16 | 2, OverlayError.DESC_SIZE),
    ]
    for layer, word, value, error in changes:
        packet = good.copy()
        packet[3 + 8 * layer + word] = value
        bench.start(Control.LOAD, _resign(packet))
        found = bench.answer()
        if found is not error:
            return f"descriptor {layer}.{word}: {found} instead of {error.name}"
        bench.driver.recover()
    packet = good.copy()
    packet[3 + 5] ^= 2
    packet[-1] = zlib.crc32(packet[:-1].tobytes())
    bench.start(Control.LOAD, packet)
    if bench.answer() is not OverlayError.DESC_CRC:
        return "descriptor CRC"
    bench.driver.recover()
    packet = good.copy()
    packet[60] ^= 1
    bench.start(Control.LOAD, packet)
    if bench.answer() is not OverlayError.CRC:
        return "model CRC"
    return None if bench.runs_right() else "the run after bad packets"


def _check_control(library: Path) -> str | None:  # noqa: PLR0911
    bench = _Packets(library)
    flat = bench.images.reshape(-1)
    bad_label = bench.images.copy()
    bad_label[3, 0] = 200
    cases = [
        ("truncated", flat[:-2], False, OverlayError.WATCHDOG_INPUT),
        ("early TLAST", flat[:-2], True, OverlayError.TLAST_EARLY),
        ("oversized", np.append(flat, np.uint32(0)), True, OverlayError.TLAST_MISSING),
        ("label", bad_label, True, OverlayError.LABEL),
    ]
    for name, words, terminated, error in cases:
        if not bench.runs_right():
            return f"the run before {name}"
        bench.start(Control.RUN, words, terminated=terminated)
        seen = {bench.board.read_register(Register.CORRECT) for _ in range(60)}
        found = bench.answer()
        if found is not error:
            return f"{name}: {found} instead of {error.name}"
        if seen | {bench.board.read_register(Register.CORRECT)} != {0}:
            return f"{name}: a count is shown"
    # Without the driver's reset: an error alone must leave everything clean for the next operation.
    for cycles in (20, 60, 100, 150, 200, 260):
        if not bench.runs_right():
            return "the run before a second start"
        bench.start(Control.RUN, bench.images)
        bench.board.run_cycles(cycles)
        if bench.board.read_register(Register.STATUS) & Status.BUSY:
            bench.board.write_register(Register.CONTROL, Control.RUN)
            if bench.answer() is not OverlayError.START_BUSY:
                return "start while busy"
            bench.board.reset_streams()
            # A failed overlay drains its input until it is started again: start first, then send.
            bench.start(Control.RUN, bench.images, send_first=False)
            if bench.answer() is not OverlayError.NONE:
                return "the run after a second start"
            predictions = bench.received[: len(bench.images)]
            if bench.board.read_register(Register.CORRECT) != 7 or not np.array_equal(predictions, bench.images[:, 0]):
                return "the results after a second start"
    return None
