"""The overlay's registers, packet words and error codes, as ``fpga/rtl/overlay_pkg.sv`` has them."""

from __future__ import annotations

from enum import IntEnum, IntFlag

OVERLAY_ID = 0x424E4E43
"""``BNNC``, what register ID answers."""
OVERLAY_VERSION_MAJOR = 1
"""The driver refuses another major version: bits 31..16 of register VERSION."""
MODEL_MAGIC = 0x4D4E4E42
DESCRIPTOR_WORDS = 8
HEADER_WORDS = 3
LABEL_WORDS = 1
LAYER_CYCLES = 0x80
"""First of 16 registers: cycles of each layer in the latest batch."""


class Register(IntEnum):
    """Byte offsets; fpga/README.md, section "Registers"."""

    ID = 0x00
    VERSION = 0x04
    CAPS0 = 0x08
    CAPS1 = 0x0C
    CAPS2 = 0x10
    CONTROL = 0x14
    CONFIG = 0x18
    STATUS = 0x1C
    IMAGE_COUNT = 0x20
    CORRECT = 0x24
    CYCLES = 0x28
    WATCHDOG = 0x2C
    IMAGES_DONE = 0x30
    MODEL_CRC = 0x34


class Control(IntFlag):
    """Bits of CONTROL; each write starts something, nothing is stored."""

    LOAD = 1
    RUN = 2
    RESET = 4


class Config(IntFlag):
    """Bits of CONFIG."""

    INTERRUPT = 1
    PREDICTIONS = 2
    LOGITS = 4


class Status(IntFlag):
    """Low bits of STATUS; the error code is in bits 15..8, the layer it concerns in bits 19..16."""

    BUSY = 1
    DONE = 2
    FAILED = 4
    MODEL_VALID = 8
    INTERRUPT = 16


class Operation(IntEnum):
    """What a layer descriptor asks for."""

    CONV = 1
    DENSE = 2
    CONV_ROWS = 3


class OverlayError(IntEnum):
    """Why an operation ended; bits 15..8 of STATUS."""

    NONE = 0
    START_BUSY = 1
    NO_MODEL = 2
    COUNT = 3
    WATCHDOG_INPUT = 4
    WATCHDOG_OUTPUT = 5
    TLAST_EARLY = 6
    TLAST_MISSING = 7
    MAGIC = 8
    HEADER = 9
    CRC = 10
    LABEL = 11
    DESC_CRC = 16
    DESC_OP = 17
    DESC_SIZE = 18
    DESC_INPUT = 19
    DESC_GROUPS = 20
    DESC_ACTIVATIONS = 21
    DESC_WEIGHTS = 22
    DESC_THRESHOLDS = 23
    DESC_FAN_IN = 24
