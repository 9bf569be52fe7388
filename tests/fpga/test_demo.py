"""A real chain whose second process counts on the simulated overlay."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from e2e.processes import bnnchain

if TYPE_CHECKING:
    from pathlib import Path


def test_the_demo_validates_on_the_simulated_overlay(simulator: Path, tmp_path: Path) -> None:
    assert simulator.exists()
    report = tmp_path / "out.json"
    done = bnnchain(
        "demo", "--backend", "fpga-sim", "--generations", "1", "--json", str(report), timeout_s=280, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "continuing on the CPU" not in done.stderr
    blocks = json.loads(report.read_text())["blocks"]
    assert [block["kind"] for block in blocks] == ["FOUND", "FOUND", "EVOLVE"]
    assert all(block["validated_by_peer"] for block in blocks)
