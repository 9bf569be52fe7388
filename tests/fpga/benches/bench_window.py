"""cocotb: the window packer of a lane gives the nine taps of every position, pooled or not, band after band."""

# ruff: noqa: ANN001  (cocotb handles have no types)

import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

FIELDS = (  # of overlay_pkg::step_t, first field in the highest bits
    ("valid", 1), ("first", 1), ("last", 1), ("quad_first", 1), ("quad_last", 1), ("group_last", 1), ("logits", 1),
    ("window", 1), ("quad", 2), ("pool", 1), ("shift", 1), ("load", 1), ("prefetch", 1), ("prefetch_row", 2),
    ("act_addr", 12), ("weight_addr", 12), ("group", 8),
)  # fmt: skip


def pack(**values: int) -> int:
    word = 0
    for name, bits in FIELDS:
        word = word << bits | values.get(name, 0)
    return word


@cocotb.test()
async def gives_the_taps(dut) -> None:
    rng = random.Random(5)
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    for pool, (height, width) in ((0, (7, 9)), (1, (8, 10)), (0, (5, 32)), (1, (7, 31))):
        image = [rng.getrandbits(width) for _ in range(height)]
        step = 2 if pool else 1
        outputs = ((height - 2) // step, (width - 2) // step)
        for band in range(outputs[0]):
            for row in range(4 if pool else 3):
                dut.data.value = image[band * step + row]
                dut.step.value = pack(prefetch=1, prefetch_row=row, pool=pool)
                await FallingEdge(dut.clk)
            dut.step.value = pack(load=1, pool=pool)
            await FallingEdge(dut.clk)
            for column in range(outputs[1]):
                for quad in range(4 if pool else 1):
                    is_last = quad == (3 if pool else 0)
                    dut.step.value = pack(valid=1, window=1, quad=quad, pool=pool, shift=int(is_last))
                    dut.data.value = rng.getrandbits(32)
                    y, x = band * step + quad // 2, column * step + quad % 2
                    expected = sum(
                        (image[y + ky] >> (x + kx) & 1) << (3 * ky + kx) for ky in range(3) for kx in range(3)
                    )
                    await cocotb.triggers.Timer(1, unit="ns")
                    assert int(dut.act.value) == expected, (pool, y, x)
                    await FallingEdge(dut.clk)
    dut.step.value, dut.data.value = pack(valid=1), 0xDEADBEEF
    await cocotb.triggers.Timer(1, unit="ns")
    assert int(dut.act.value) == 0xDEADBEEF
