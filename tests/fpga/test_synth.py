"""The judging of synthesis reports; the synthesis itself is `make fpga-synth`."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnnchain_fpga.compile import Capabilities

if TYPE_CHECKING:
    from types import ModuleType

SCRIPT = Path(__file__).resolve().parents[2] / "fpga" / "synth.py"


@pytest.fixture(scope="module")
def synth() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synth", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["synth"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def cell(kind: str, inputs: dict[str, list[int]], outputs: dict[str, list[int]]) -> dict[str, object]:
    directions = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    return {"type": kind, "connections": inputs | outputs, "port_directions": directions}


def make_top() -> dict[str, object]:
    """register -> LUT -> carry -> LUT -> register, and a memory fed by one LUT."""
    return {
        "netnames": {"start": {"bits": [2]}, "end": {"bits": [9]}, "clock": {"bits": [1]}},
        "cells": {
            "a": cell("FDRE", {"D": [9], "C": [1]}, {"Q": [2]}),
            "b": cell("LUT2", {"I0": [2], "I1": [9]}, {"O": [3]}),
            "c": cell("CARRY4", {"S": [3]}, {"O": [4]}),
            "d": cell("LUT6", {"I0": [4], "I1": [2]}, {"O": [5]}),
            "e": cell("FDRE", {"D": [5], "C": [1]}, {"Q": [9]}),
            "f": cell("RAMB36E1", {"ADDRARDADDR": [3]}, {"DOADO": [11]}),
            "g": cell("RAM64M", {"ADDRA": [2]}, {"DOA": [12]}),
        },
    }


def test_levels_and_counts(synth: ModuleType) -> None:
    top = make_top()
    assert synth.longest_paths(top, 1) == [(2, "FDRE end")]
    report = synth.make_report(top, Capabilities(), "yosys", 1.0)
    assert (report.lut, report.lutram, report.ramb36, report.ff, report.latches, report.lut_levels) == (
        2,
        4,
        1,
        2,
        0,
        2,
    )


def test_block_rams_are_expected_exactly(synth: ModuleType) -> None:
    assert synth.expect_ramb36(Capabilities()) == 16 * 3 + 16 * 4 + 5
    small = Capabilities(2, 4, 16, weight_depth=512, activation_depth=1024, group_depth=64, classes=32)
    assert synth.expect_ramb36(small) == 4 * 0.5 + 2 * 0.5 + 1


@pytest.mark.parametrize(
    ("change", "breach"),
    [
        ({"ramb36": 53.0}, "exactly 117"),
        ({"latches": 1}, "latches 1"),
        ({"dsp": 2}, "DSP 2"),
        ({"lut": 37_000}, "LUT + LUTRAM"),
        ({"ff": 60_001}, "FF 60001"),
        ({"lut_levels": 7}, "LUT levels 7"),
    ],
)
def test_breaches_of_the_budget(synth: ModuleType, change: dict[str, float], breach: str) -> None:
    good = dataclasses.replace(
        synth.make_report(make_top(), Capabilities(), "yosys", 1.0), lut=26_000, lutram=1_900, ramb36=117.0, ff=25_000
    )
    assert synth.find_breaches(good) == []
    (found,) = synth.find_breaches(dataclasses.replace(good, **change))
    assert breach in found
