"""Runs the cocotb benches of single modules under Verilator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bnnchain_fpga.simulator import VARIABLES, find_verilator, lint, list_sources
from bnnchain_kernels.errors import Unavailable

BENCHES = Path(__file__).parent / "benches"
UNITS = [
    ("xnor_popcount", "bench_popcount"),
    ("crc32_word", "bench_crc"),
    ("axil_registers", "bench_registers"),
    ("window_lane", "bench_window"),
]
RUNNER = """
import sys
from cocotb_tools.runner import get_results, get_runner
top, bench, build, *sources = sys.argv[1:]
runner = get_runner("verilator")
runner.build(sources=sources, hdl_toplevel=top, build_dir=build, always=True, build_args=["-Wno-fatal"])
results = runner.test(hdl_toplevel=top, test_module=bench, build_dir=build, test_dir=build)
tests, failures = get_results(results)
sys.exit(0 if tests and not failures else 1)
"""


@pytest.fixture(scope="module")
def tools() -> Path:
    pytest.importorskip("cocotb_tools")
    pytest.importorskip("cocotbext.axi")
    try:
        return find_verilator()
    except Unavailable as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(("top", "bench"), UNITS)
def test_unit(tools: Path, tmp_path: Path, top: str, bench: str) -> None:
    # In a process of its own: the runner changes the environment, and Verilator's makefile takes ours.
    environment = {
        **os.environ,
        **VARIABLES,
        "PATH": f"{tools}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(BENCHES),
    }
    sources = [str(path) for path in list_sources()]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, top, bench, str(tmp_path / "build"), *sources],
        env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_verilator_has_no_warning() -> None:
    try:
        assert lint() == ""
    except Unavailable as missing:
        pytest.skip(str(missing))


def test_lint_finds_warnings(tools: Path, tmp_path: Path) -> None:
    sources = []
    for source in list_sources():
        text = source.read_text()
        if source.name == "class_unit.sv":
            text = text.replace("logic reading;", "logic reading, forgotten;")
        (tmp_path / source.name).write_text(text)
        sources.append(tmp_path / source.name)
    assert "UNUSEDSIGNAL" in lint(sources)
