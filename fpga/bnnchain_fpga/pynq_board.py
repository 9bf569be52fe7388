"""A PYNQ-Z2 with the overlay's bitstream: registers by MMIO, streams by the AXI DMA.  Never run on hardware yet.

pynq (3.1 on the board's image) is imported only when a board is opened.
"""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bnnchain_fpga.registers import Register, Status
from bnnchain_kernels.errors import Fault, Unavailable

if TYPE_CHECKING:
    from bnnchain_fpga.compile import UInt32Array

BITSTREAM_VARIABLE = "BNNCHAIN_FPGA_BITSTREAM"
DEFAULT_BITSTREAM = Path("/usr/local/share/bnnchain/bnn_overlay.bit")
"""Where fpga/boards/pynq_z2/README.md installs it, the .hwh of the same name beside it."""
OVERLAY_CELL = "bnn_overlay_0"
DMA_CELL = "axi_dma_0"
REGISTER_SPACE_BYTES = 4096
POLL_S = 50e-6
NOMINAL_CLOCK_HZ = 100_000_000


class PynqBoard:
    """Implements :class:`~bnnchain_fpga.transport.Transport` on a Zynq board.

    The interrupt is seen by polling STATUS, which needs neither asyncio nor a UIO device.
    """

    name = "fpga"

    def __init__(self, bitstream: Path | None = None) -> None:
        """Program the device; ``Unavailable`` without pynq, bitstream or device, ``Fault`` where programming fails."""
        path = bitstream or Path(os.environ.get(BITSTREAM_VARIABLE, DEFAULT_BITSTREAM))
        if importlib.util.find_spec("pynq") is None:
            raise Unavailable("pynq is not installed: pip install 'bnnchain[fpga]', on the board")
        if not path.is_file():
            raise Unavailable(f"no bitstream at {path}: build it as fpga/boards/pynq_z2/README.md says")
        try:
            import pynq

            self._overlay: Any = pynq.Overlay(str(path))
        except Exception as error:  # pynq raises plain RuntimeErrors, also for "No Devices Found"
            if "No Devices Found" in str(error):
                raise Unavailable(f"no board: {error}") from error
            raise Fault(f"programming the device failed: {error}") from error
        self._pynq: Any = pynq
        try:
            self._attach(self._overlay)
        except (AttributeError, KeyError) as error:
            raise Fault(f"{path} is not this overlay: {error}") from error
        self._buffers: list[Any] = []
        self._receiving = self._sending = False
        self.clock_hz = self._read_clock()

    def _attach(self, overlay: Any) -> None:  # noqa: ANN401 (pynq has no types)
        address = overlay.ip_dict[OVERLAY_CELL]["phys_addr"]
        self._registers: Any = self._pynq.MMIO(address, REGISTER_SPACE_BYTES)
        dma = getattr(overlay, DMA_CELL)
        self._send: Any = dma.sendchannel
        self._receive: Any = dma.recvchannel

    def _read_clock(self) -> int:
        clocks = getattr(self._pynq, "Clocks", None)
        try:
            return round(float(clocks.fclk0_mhz) * 1e6) if clocks is not None else NOMINAL_CLOCK_HZ
        except (AttributeError, OSError, RuntimeError, TypeError):
            return NOMINAL_CLOCK_HZ

    def read_register(self, offset: int) -> int:
        return int(self._registers.read(offset))

    def write_register(self, offset: int, value: int) -> None:
        self._registers.write(offset, int(value))

    def allocate(self, words: int) -> UInt32Array:
        try:
            buffer = self._pynq.allocate(shape=(words,), dtype=np.uint32)
        except (RuntimeError, MemoryError) as error:
            raise Fault(f"no contiguous memory for {words} words: {error}") from error
        self._buffers.append(buffer)
        array: UInt32Array = buffer
        return array

    def start_receive(self, buffer: UInt32Array) -> None:
        self._transfer(self._receive, buffer)
        self._receiving = True

    def start_send(self, buffer: UInt32Array) -> None:
        self._transfer(self._send, buffer)
        self._sending = True

    def _transfer(self, channel: Any, buffer: UInt32Array) -> None:  # noqa: ANN401
        """Start a DMA transfer of a buffer's beginning: pynq wants the whole allocated array and a byte count."""
        whole = next((owned for owned in self._buffers if np.shares_memory(owned, buffer)), None)
        if whole is None:
            raise Fault("the buffer was not allocated by this board")
        try:
            channel.transfer(whole, nbytes=buffer.nbytes)
        except (RuntimeError, ValueError) as error:
            raise Fault(f"DMA: {error}") from error

    def wait_interrupt(self, timeout_ms: int) -> bool:
        deadline = time.monotonic() + timeout_ms / 1000
        while not self.read_register(Register.STATUS) & Status.INTERRUPT:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def finish_streams(self, timeout_ms: int) -> None:
        deadline = time.monotonic() + timeout_ms / 1000
        for channel, is_used in ((self._send, self._sending), (self._receive, self._receiving)):
            while is_used and not channel.idle:
                if channel.error or not channel.running or time.monotonic() > deadline:
                    raise Fault("DMA: a channel stopped before the end of its transfer")
                time.sleep(POLL_S)
            if is_used:
                try:
                    channel.wait()  # idle already; this is where pynq invalidates the cache
                except RuntimeError as error:
                    raise Fault(f"DMA: {error}") from error
        self._sending = self._receiving = False

    def reset_streams(self) -> None:
        self._sending = self._receiving = False
        for channel in (self._send, self._receive):
            channel.stop()
            channel.start()

    def close(self) -> None:
        for buffer in self._buffers:
            buffer.freebuffer()
        self._buffers.clear()
