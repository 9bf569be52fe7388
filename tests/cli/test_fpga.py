"""The overlay from the command line where there is no board: one warning, and the CPU does the work."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from e2e.processes import NodeProcess, bnnchain

needs_no_board = pytest.mark.skipif(
    Path("/etc/pynq_release").exists(), reason="this is a PYNQ board: the overlay may be there"
)


@needs_no_board
def test_a_node_without_a_board_warns_once_and_validates_on_the_cpu(tmp_path: Path) -> None:
    home = tmp_path / "home"
    bnnchain("init", "--home", str(home))
    with NodeProcess("mine", "--backend", "fpga", "--blocks", "3", "--seed", "1", home=home) as node:
        node.wait_ready()
        node.wait_height(3)
        assert node.stop() == 0
        records = [json.loads(line) for line in node.stderr_file.read_text().splitlines()]
    warnings = [record["message"] for record in records if record["level"] == "warning"]
    assert len(warnings) == 1
    assert "continuing on the CPU" in warnings[0]
    bnnchain("verify", "--home", str(home))


@needs_no_board
def test_the_doctor_says_what_is_missing(tmp_path: Path) -> None:
    report = tmp_path / "doctor.json"
    done = bnnchain("fpga", "doctor", "--json", str(report), check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the overlay is not ready: device: ")
    if importlib.util.find_spec("pynq") is None:
        assert "bnnchain[fpga]" in done.stderr
    findings = json.loads(report.read_text())["findings"]
    assert not findings[-1]["is_good"]
