"""cocotb: the register file against an AXI4-Lite master that is not ours, with random pauses on every channel."""

# ruff: noqa: ANN001  (cocotb handles have no types)

import itertools
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

WRITABLE = {0x18: 0x7, 0x20: 0xFFFFFFFF, 0x2C: 0xFFFFFFFF}
STATE = {0x1C: "status", 0x24: "correct", 0x28: "cycles", 0x30: "images_done", 0x34: "model_crc"}


async def start(dut) -> AxiLiteMaster:
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst)
    for name in (*STATE.values(), "layer_cycles"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    await ClockCycles(dut.clk, 5)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    return master


@cocotb.test()
async def holds_what_is_written(dut) -> None:
    master = await start(dut)
    rng = random.Random(3)
    for channel in (master.write_if.aw_channel, master.write_if.w_channel, master.read_if.ar_channel):
        channel.set_pause_generator(itertools.cycle(rng.random() < 0.3 for _ in range(97)))
    for channel in (master.write_if.b_channel, master.read_if.r_channel):
        channel.set_pause_generator(itertools.cycle(rng.random() < 0.3 for _ in range(89)))
    held = {}
    for _ in range(300):
        offset, value = rng.choice(list(WRITABLE)), rng.getrandbits(32)
        await master.write_dword(offset, value)
        held[offset] = value & WRITABLE[offset]
        offset = rng.choice(list(held))
        assert await master.read_dword(offset) == held[offset]


@cocotb.test()
async def shows_state_and_refuses_writes_to_it(dut) -> None:
    master = await start(dut)
    rng = random.Random(4)
    for offset, name in STATE.items():
        value = rng.getrandbits(32)
        getattr(dut, name).value = value
        assert await master.read_dword(offset) == value
        response = await master.write(offset, b"\xff\xff\xff\xff")
        assert response.resp == AxiResp.SLVERR
        assert await master.read_dword(offset) == value
    assert await master.read_dword(0x00) == 0x424E4E43
    assert await master.read_dword(0xF0) == 0
    response = await master.write(0x20, b"\x01")  # one strobe of four
    assert response.resp == AxiResp.SLVERR


@cocotb.test()
async def requests_last_one_cycle(dut) -> None:
    master = await start(dut)
    for bit, name in enumerate(("load_request", "run_request", "reset_request")):
        seen = 0
        write = cocotb.start_soon(master.write_dword(0x14, 1 << bit))
        for _ in range(20):
            await RisingEdge(dut.clk)
            seen += int(getattr(dut, name).value)
        await write
        assert seen == 1, name
