"""What the driver needs of a board, real or simulated: registers, two streams, an interrupt.

Implementations: :mod:`bnnchain_fpga.pynq_board` (a PYNQ-Z2) and :mod:`bnnchain_fpga.simulated_board` (Verilator).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bnnchain_fpga.compile import UInt32Array


class Transport(Protocol):
    """One overlay and its two DMA channels.  Not safe for several threads; the driver holds a lock.

    Every method raises :class:`~bnnchain_kernels.errors.Fault` where the board misbehaves.
    """

    name: str
    """The backend name: ``fpga`` or ``fpga-sim``."""
    clock_hz: int
    """The overlay's clock: measured on a board, nominal in simulation."""

    def read_register(self, offset: int) -> int:
        """Return a 32-bit register."""
        ...

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit register."""
        ...

    def allocate(self, words: int) -> UInt32Array:
        """Return a zeroed ``uint32[words]`` that both streams can use; it lives as long as the board is open."""
        ...

    def start_receive(self, buffer: UInt32Array) -> None:
        """Begin to fill ``buffer``, all of an :meth:`allocate` d array or its beginning, from the overlay's stream."""
        ...

    def start_send(self, buffer: UInt32Array) -> None:
        """Begin to stream ``buffer`` as one packet; the last word carries TLAST."""
        ...

    def wait_interrupt(self, timeout_ms: int) -> bool:
        """Return whether the interrupt came in time; does not read any result."""
        ...

    def finish_streams(self, timeout_ms: int) -> None:
        """Wait until both channels have moved everything they were asked to; a rest is a ``Fault``."""
        ...

    def reset_streams(self) -> None:
        """Abandon whatever the channels still hold, after a failed operation."""
        ...

    def close(self) -> None:
        """Release the board; nothing may be called afterwards."""
        ...
