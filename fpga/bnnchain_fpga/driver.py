"""Drives one overlay: compile, load, stream, wait, read, each a step of its own.

The overlay computes; the driver trusts nothing: identity and size are read back at start, the CRC of the model after
loading, and every run's count is recounted from the streamed predictions.  What does not agree is a ``Fault``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bnnchain_fpga.compile import Capabilities, CompiledModel, compile_model
from bnnchain_fpga.registers import (
    LAYER_CYCLES,
    OVERLAY_ID,
    OVERLAY_VERSION_MAJOR,
    Config,
    Control,
    OverlayError,
    Register,
    Status,
)
from bnnchain_kernels.errors import Fault

if TYPE_CHECKING:
    from bnnchain_fpga.compile import UInt32Array
    from bnnchain_fpga.transport import Transport
    from bnnchain_kernels.model import Int32Array, Model, UInt8Array

WATCHDOG_CYCLES = 1_000_000
"""Cycles without progress after which the overlay gives up: 10 ms at 100 MHz, longer than a board's DMA ever pauses."""
LOAD_TIMEOUT_MS = 1_000
RUN_TIMEOUT_MS = 10_000
MAX_RUN_IMAGES = 8_192
"""Images of one run; bounds the buffers and a DMA transfer (under 64 MiB even at 256 classes)."""


class OverlayFault(Fault):
    """The overlay ended an operation with an error code of its own."""

    def __init__(self, error: OverlayError, layer: int) -> None:
        self.error = error
        self.layer = layer
        super().__init__(f"the overlay reports {error.name.lower().replace('_', '-')} (layer {layer})")


@dataclass(frozen=True, slots=True, eq=False)
class RunResult:
    """What one run returned.

    predictions: ``uint8[n]``; logits: ``int32[n, classes]`` or None where not asked for; cycles: of the whole run.
    """

    predictions: UInt8Array
    logits: Int32Array | None
    correct: int
    cycles: int


class Driver:
    """Loads models into one overlay and runs images through it.  Not safe for several threads."""

    def __init__(self, transport: Transport) -> None:
        """Check the overlay's identity; raises ``Fault`` where it is not one this driver knows."""
        self._transport = transport
        if transport.read_register(Register.ID) != OVERLAY_ID:
            raise Fault("no BNN overlay answers at its address")
        self.version = transport.read_register(Register.VERSION)
        if self.version >> 16 != OVERLAY_VERSION_MAJOR:
            raise Fault(f"overlay version {self.version:#010x}, this driver needs major {OVERLAY_VERSION_MAJOR}")
        self.capabilities = read_capabilities(transport)
        self._loaded: tuple[Model, CompiledModel] | None = None
        self._buffers: dict[str, UInt32Array] = {}
        self.recover()

    def compile(self, model: Model) -> CompiledModel:
        """Return the packet of ``model``; raises :class:`~bnnchain_fpga.compile.DoesNotFit`.  Touches no device."""
        if self._loaded is not None and self._loaded[0] is model:
            return self._loaded[1]
        return compile_model(model, self.capabilities)

    def load(self, model: Model, compiled: CompiledModel) -> None:
        """Put a compiled model on the overlay, unless it is there already."""
        if self._loaded is not None and self._loaded[0] is model:
            return
        self._loaded = None
        packet = self._stage("send", compiled.packet)
        self._operate(Control.LOAD, packet, self._buffer("receive", 0), LOAD_TIMEOUT_MS)
        if self._transport.read_register(Register.MODEL_CRC) != compiled.crc:
            raise Fault("the overlay holds another model than was sent")
        self._loaded = (model, compiled)

    def run(self, images: UInt32Array, *, want_logits: bool) -> RunResult:
        """Run packed images (``uint32[n, 1 + image_words]``, n <= MAX_RUN_IMAGES) through the loaded model."""
        if self._loaded is None:
            raise Fault("no model is loaded")
        classes = self._loaded[0].architecture.classes
        count, row_words = len(images), 1 + (classes if want_logits else 0)
        self._transport.write_register(Register.IMAGE_COUNT, count)
        config = Config.INTERRUPT | Config.PREDICTIONS | (Config.LOGITS if want_logits else Config(0))
        self._transport.write_register(Register.CONFIG, config)
        received = self._buffer("receive", count * row_words)
        self._operate(Control.RUN, self._stage("send", images.reshape(-1)), received, RUN_TIMEOUT_MS)
        return self._read(received.reshape(count, row_words).copy(), images[:, 0], classes)

    def layer_cycles(self, layers: int) -> tuple[int, ...]:
        """Return the cycles each layer took in the latest batch."""
        return tuple(self._transport.read_register(LAYER_CYCLES + 4 * index) for index in range(layers))

    def recover(self) -> None:
        """Bring overlay and streams back to idle; the model has to be loaded again."""
        self._loaded = None
        self._transport.write_register(Register.CONTROL, Control.RESET)
        self._transport.reset_streams()
        self._transport.write_register(Register.CONFIG, Config.INTERRUPT)
        self._transport.write_register(Register.WATCHDOG, WATCHDOG_CYCLES)

    def close(self) -> None:
        """Release the board."""
        self._transport.close()

    def _operate(self, control: Control, packet: UInt32Array, received: UInt32Array, timeout_ms: int) -> None:
        """Stream, start and wait; on any failure bring the overlay back to idle and raise."""
        try:
            if len(received):
                self._transport.start_receive(received)
            self._transport.start_send(packet)
            self._transport.write_register(Register.CONTROL, control)
            self._wait(timeout_ms)
        except Fault:
            self.recover()
            raise

    def _wait(self, timeout_ms: int) -> None:
        came = self._transport.wait_interrupt(timeout_ms)
        status = self._transport.read_register(Register.STATUS)
        if status & Status.FAILED:
            raise OverlayFault(decode_error(status), status >> 16 & 0xF)
        if not came or not status & Status.DONE:
            raise Fault(f"the overlay did not finish within {timeout_ms} ms (status {status:#010x})")
        self._transport.finish_streams(timeout_ms)

    def _read(self, rows: UInt32Array, labels: UInt32Array, classes: int) -> RunResult:
        """Take the streamed rows apart and hold them against the overlay's own registers."""
        correct = self._transport.read_register(Register.CORRECT)
        done = self._transport.read_register(Register.IMAGES_DONE)
        counted = int(np.count_nonzero(rows[:, 0] == labels))
        if done != len(rows) or correct != counted or (len(rows) and rows[:, 0].max() >= classes):
            self.recover()
            raise Fault(f"the overlay contradicts itself: {correct} of {done} right, its predictions say {counted}")
        logits = rows[:, 1:].view(np.int32) if rows.shape[1] > 1 else None
        if logits is not None and not np.array_equal(logits.argmax(axis=1), rows[:, 0]):
            self.recover()
            raise Fault("the overlay contradicts itself: a prediction is not its largest logit")
        cycles = self._transport.read_register(Register.CYCLES)
        return RunResult(rows[:, 0].astype(np.uint8), logits, correct, cycles)

    def _stage(self, name: str, words: UInt32Array) -> UInt32Array:
        """Copy words into the channel's buffer."""
        buffer = self._buffer(name, len(words))
        buffer[:] = words
        return buffer

    def _buffer(self, name: str, words: int) -> UInt32Array:
        """Return the first ``words`` of the channel's buffer, which grows by doubling and is kept."""
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < words:
            buffer = self._buffers[name] = self._transport.allocate(1 << max(words - 1, 1).bit_length())
        return buffer[:words]


def read_capabilities(transport: Transport) -> Capabilities:
    """Return the size of the overlay from its CAPS registers."""
    array, memory, tables = (transport.read_register(r) for r in (Register.CAPS0, Register.CAPS1, Register.CAPS2))
    return Capabilities(
        lanes=array & 0xFF,
        filters=array >> 8 & 0xFF,
        word_bits=array >> 16 & 0xFF,
        layers=array >> 24,
        weight_depth=memory & 0xFFFF,
        activation_depth=memory >> 16,
        group_depth=tables & 0xFFFF,
        classes=tables >> 16,
    )


def decode_error(status: int) -> OverlayError:
    """Return the error code of a STATUS value; an unknown one is a ``Fault`` too."""
    code = status >> 8 & 0xFF
    try:
        return OverlayError(code)
    except ValueError:
        raise Fault(f"the overlay reports the unknown error {code}") from None
