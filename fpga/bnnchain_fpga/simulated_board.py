"""A board simulated cycle by cycle: the real RTL, Verilated, behind the same interface as a PYNQ-Z2."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import cffi
import numpy as np

from bnnchain_fpga.simulator import CDEF, build_simulator
from bnnchain_kernels.errors import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain_fpga.compile import UInt32Array

NOMINAL_CLOCK_HZ = 100_000_000
CYCLES_PER_MS = 100_000
"""How much simulated time a millisecond of a driver's patience is, at the nominal clock."""
AXI_OKAY = 0


class SimulatedBoard:
    """Implements :class:`~bnnchain_fpga.transport.Transport` over a Verilated overlay.

    Besides the protocol it can stall streams at random and send packets without TLAST, for tests.
    """

    name = "fpga-sim"
    clock_hz = NOMINAL_CLOCK_HZ

    def __init__(self, library: Path | None = None) -> None:
        self._ffi = cffi.FFI()
        self._ffi.cdef(CDEF)
        self._library = _load(self._ffi, library or build_simulator())
        self._board = self._library.board_new()
        self._release = weakref.finalize(self, self._library.board_free, self._board)
        self._sending: UInt32Array = np.zeros(0, np.uint32)
        self._receiving: UInt32Array = np.zeros(0, np.uint32)

    def read_register(self, offset: int) -> int:
        value = self._ffi.new("uint32_t *")
        if self._library.board_read(self._board, offset, value) != AXI_OKAY:
            raise Fault(f"reading register {offset:#x} failed")
        return int(value[0])

    def write_register(self, offset: int, value: int) -> None:
        if self._library.board_write(self._board, offset, value) != AXI_OKAY:
            raise Fault(f"writing register {offset:#x} failed")

    def allocate(self, words: int) -> UInt32Array:
        return np.zeros(words, np.uint32)

    def start_receive(self, buffer: UInt32Array) -> None:
        self._receiving = buffer  # keeps it alive while the engine holds its address
        pointer = self._ffi.cast("uint32_t *", buffer.ctypes.data)
        self._library.board_receive(self._board, pointer, len(buffer))

    def start_send(self, buffer: UInt32Array, *, is_terminated: bool = True) -> None:
        self._sending = buffer
        pointer = self._ffi.cast("uint32_t *", buffer.ctypes.data)
        self._library.board_send(self._board, pointer, len(buffer), int(is_terminated))

    def wait_interrupt(self, timeout_ms: int) -> bool:
        return bool(self._library.board_wait(self._board, timeout_ms * CYCLES_PER_MS))

    def finish_streams(self, timeout_ms: int) -> None:
        del timeout_ms  # the interrupt follows the last transfer, so nothing can still be under way
        sent, received = self._library.board_sent(self._board), self._library.board_received(self._board)
        if sent != len(self._sending) or received != len(self._receiving):
            raise Fault(
                f"streams stopped short: sent {sent} of {len(self._sending)} words, "
                f"received {received} of {len(self._receiving)}"
            )
        if len(self._receiving) and not self._library.board_receive_ended(self._board):
            raise Fault("the overlay's stream did not end with TLAST")

    def reset_streams(self) -> None:
        self._sending = self._receiving = np.zeros(0, np.uint32)
        self._library.board_send(self._board, self._ffi.NULL, 0, 1)
        self._library.board_receive(self._board, self._ffi.NULL, 0)

    def close(self) -> None:
        self._release()

    def stall_streams(self, seed: int, send_of_256: int, receive_of_256: int) -> None:
        """Make each stream idle at random, with these chances of 256 a cycle."""
        self._library.board_stall(self._board, seed, send_of_256, receive_of_256)

    def run_cycles(self, count: int) -> None:
        """Let the clock run."""
        self._library.board_tick(self._board, count)

    @property
    def cycles(self) -> int:
        """Clock cycles since power-on."""
        return int(self._library.board_cycles(self._board))

    @property
    def cycles_to_interrupt(self) -> int:
        """Cycles from the latest register write to the interrupt, counted by the harness alone."""
        return int(self._library.board_cycles_to_irq(self._board))


def _load(ffi: cffi.FFI, path: Path) -> Any:  # noqa: ANN401 (a C library has no Python types)
    try:
        return ffi.dlopen(str(path))
    except OSError as error:
        raise Fault(f"the simulator does not load: {error}") from error
