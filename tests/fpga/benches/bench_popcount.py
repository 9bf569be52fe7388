"""cocotb: one count a cycle, three cycles late, for corner words and random ones."""

# ruff: noqa: ANN001  (cocotb handles have no types)

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

LATENCY = 3


@cocotb.test()
async def counts_matching_bits(dut) -> None:
    rng = random.Random(1)
    bits = len(dut.act)
    full = (1 << bits) - 1
    words = [(0, 0), (0, full), (full, full), (full, 0), (1, full), (1 << (bits - 1), full)]
    words += [(1 << i, 0) for i in range(bits)] + [((1 << i) - 1, full) for i in range(bits + 1)]
    words += [(rng.getrandbits(bits), rng.getrandbits(bits)) for _ in range(2000)]
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    await FallingEdge(dut.clk)
    for index in range(len(words) + LATENCY):
        if index < len(words):
            dut.act.value, dut.weight.value = words[index]
        if index >= LATENCY:
            act, weight = words[index - LATENCY]
            expected = (~(act ^ weight) & full).bit_count()
            assert int(dut.count.value) == expected, (hex(act), hex(weight))
        await FallingEdge(dut.clk)
