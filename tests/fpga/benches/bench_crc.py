"""cocotb: the word-wise CRC is zlib's."""

# ruff: noqa: ANN001  (cocotb handles have no types)

import random
import zlib

import cocotb
from cocotb.triggers import Timer


@cocotb.test()
async def equals_zlib(dut) -> None:
    rng = random.Random(2)
    for length in (1, 2, 7, 100):
        words = [rng.getrandbits(32) for _ in range(length)]
        crc = 0xFFFFFFFF
        for word in words:
            dut.crc.value, dut.word.value = crc, word
            await Timer(1, unit="ns")
            crc = int(dut.next.value)
        data = b"".join(word.to_bytes(4, "little") for word in words)
        assert crc ^ 0xFFFFFFFF == zlib.crc32(data)
