"""An overlay in NumPy: reads the same packets and registers as the RTL, for tests that need no Verilator.

Written from fpga/README.md alone, so that it also checks the documented formats.
"""

from __future__ import annotations

import zlib

import numpy as np

from bnnchain_fpga.registers import Config, Control, Operation, OverlayError, Register, Status
from bnnchain_kernels.errors import Fault

FILTERS, WORD = 16, 32


def unpack(words: np.ndarray) -> np.ndarray:
    """``uint32[..., n]`` to 0/1 ``[..., 32 n]``."""
    bits = (words[..., None] >> np.arange(WORD, dtype=np.uint32)) & 1
    return bits.reshape(*words.shape[:-1], -1).astype(np.int64)


class EmulatedBoard:
    """``corrupt`` may be set to a function that changes the words about to be received."""

    name = "fpga-sim"
    clock_hz = 100_000_000

    def __init__(self) -> None:
        self.registers: dict[int, int] = {
            Register.ID: 0x424E4E43,
            Register.VERSION: 0x00010000,
            Register.CAPS0: 16 | 16 << 8 | 32 << 16 | 16 << 24,
            Register.CAPS1: 3072 | 4096 << 16,
            Register.CAPS2: 256 | 256 << 16,
        }
        self.fail_with: OverlayError | None = None
        self.corrupt = lambda words: words
        self.is_mute = False
        self.is_closed = False
        self.loads = 0
        self.layers: list[dict[str, int]] = []

    def read_register(self, offset: int) -> int:
        return self.registers.get(offset, 0)

    def write_register(self, offset: int, value: int) -> None:
        self.registers[offset] = value
        if offset == Register.CONTROL:
            self.registers[Register.STATUS] = Status.DONE | Status.MODEL_VALID | Status.INTERRUPT
            if value & Control.RESET:
                self.registers[Register.STATUS] = 0
            elif self.fail_with is not None:
                self.registers[Register.STATUS] = Status.FAILED | Status.INTERRUPT | self.fail_with << 8
            elif value & Control.LOAD:
                self._load(self.sending)
            else:
                self._run(self.sending)

    def allocate(self, words: int) -> np.ndarray:
        return np.zeros(words, np.uint32)

    def start_receive(self, buffer: np.ndarray) -> None:
        self.receiving = buffer

    def start_send(self, buffer: np.ndarray) -> None:
        self.sending = buffer.copy()

    def wait_interrupt(self, timeout_ms: int) -> bool:
        return not self.is_mute

    def finish_streams(self, timeout_ms: int) -> None:
        pass

    def reset_streams(self) -> None:
        self.sending = self.receiving = np.zeros(0, np.uint32)

    def close(self) -> None:
        self.is_closed = True

    def _load(self, packet: np.ndarray) -> None:
        if zlib.crc32(packet[:-1].tobytes()) != packet[-1]:
            raise Fault("emulator: model CRC")
        self.loads += 1
        count, self.classes = int(packet[1]) & 0xFF, int(packet[1]) >> 16
        weight_words, threshold_groups = int(packet[2]) & 0xFFFF, int(packet[2]) >> 16
        descriptors = packet[3 : 3 + 8 * count].reshape(count, 8)
        names = ("op", "size", "input", "acts", "bases", "fan_in")
        self.layers = [dict(zip(names, map(int, row), strict=False)) for row in descriptors]
        for row in descriptors:
            assert zlib.crc32(row[:7].tobytes()) == row[7]
        at = 3 + 8 * count
        self.weights = packet[at : at + weight_words * FILTERS].reshape(weight_words, FILTERS)
        at += weight_words * FILTERS
        self.starts = packet[at : at + threshold_groups * FILTERS].view(np.int32).reshape(-1, FILTERS)
        at += threshold_groups * FILTERS
        self.biases = packet[at : at + self.classes].view(np.int32)
        assert at + self.classes + 1 == len(packet)
        self.registers[Register.MODEL_CRC] = int(packet[-1])

    def _run(self, words: np.ndarray) -> None:
        count = self.registers[Register.IMAGE_COUNT]
        rows = words.reshape(count, -1)
        logits = self._infer(rows[:, 1:])
        predictions = logits.argmax(axis=1)
        self.registers[Register.CORRECT] = int((predictions == rows[:, 0]).sum())
        self.registers[Register.IMAGES_DONE] = count
        columns = [predictions[:, None]]
        if self.registers[Register.CONFIG] & Config.LOGITS:
            columns.append(logits)
        self.receiving[:] = self.corrupt(np.hstack(columns).astype(np.int32).view(np.uint32)).reshape(-1)

    def _infer(self, words: np.ndarray) -> np.ndarray:
        count = len(words)
        memory = np.zeros((count, 4096), np.uint32)
        memory[:, : words.shape[1]] = words
        for layer in self.layers:
            operation, pool, last = layer["op"] & 15, layer["op"] >> 4 & 1, layer["op"] >> 5 & 1
            width, height = layer["size"] & 0x1FF, layer["size"] >> 16
            in_words, groups = layer["input"] & 0xFFFF, layer["input"] >> 16
            in_base, out_base = layer["acts"] & 0xFFFF, layer["acts"] >> 16
            weight_base, threshold_base = layer["bases"] & 0xFFFF, layer["bases"] >> 16
            if operation == Operation.DENSE:
                inputs = memory[:, None, None, in_base : in_base + in_words]
            elif operation == Operation.CONV_ROWS:
                bits = unpack(memory[:, in_base : in_base + height, None])[:, :, :width]
                taps = [bits[:, y : y + height - 2, x : x + width - 2] for y in range(3) for x in range(3)]
                word = sum(tap << index for index, tap in enumerate(taps))
                inputs = np.asarray(word, np.uint32)[..., None]
            else:
                pixels = memory[:, in_base : in_base + height * width * in_words]
                pixels = pixels.reshape(count, height, width, in_words)
                taps = [pixels[:, y : y + height - 2, x : x + width - 2] for y in range(3) for x in range(3)]
                inputs = np.concatenate(taps, axis=3)
            row_words = inputs.shape[3]
            rows = self.weights[weight_base : weight_base + groups * row_words].reshape(groups, row_words, FILTERS)
            rows = unpack(rows.transpose(0, 2, 1).reshape(groups * FILTERS, row_words)) * 2 - 1
            bits = unpack(inputs) * 2 - 1
            matches = (bits @ rows.T + bits.shape[3]) // 2
            if last:
                return 2 * matches[:, 0, 0, : self.classes] - layer["fan_in"] + self.biases
            starts = self.starts[threshold_base : threshold_base + groups].reshape(-1)
            out = matches + starts >= 0
            if pool:
                high, wide = out.shape[1] // 2, out.shape[2] // 2
                out = out[:, : high * 2, : wide * 2].reshape(count, high, 2, wide, 2, -1).any(axis=(2, 4))
            padded = np.zeros((*out.shape[:3], -(-out.shape[3] // WORD) * WORD), np.uint8)
            padded[..., : out.shape[3]] = out
            packed = np.packbits(padded, axis=-1, bitorder="little").view("<u4").reshape(count, -1)
            memory[:, out_base : out_base + packed.shape[1]] = packed
        raise Fault("emulator: no last layer")
