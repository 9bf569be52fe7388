from __future__ import annotations

import builtins
import logging
import platform
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bnnchain_kernels import select as selection
from bnnchain_kernels.errors import Fault, Unavailable
from bnnchain_kernels.reference import ReferenceEvaluator
from bnnchain_kernels.select import AUTO_ORDER, select

if TYPE_CHECKING:
    from bnnchain_kernels.evaluator import EvaluatorFactory
    from bnnchain_kernels.model import Int32Array, Model


@pytest.fixture(autouse=True)
def fresh_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_verdicts", {})


class MiscountingEvaluator(ReferenceEvaluator):
    """Counts one image too many in the last block, and nothing else wrong."""

    backend = "fpga"

    def correct(self, model: Model, start: int, stop: int) -> Int32Array:
        counts = super().correct(model, start, stop)
        counts[-1] += 1
        return counts


class WrongLogitsEvaluator(ReferenceEvaluator):
    """Gives the last class's logit one too low, which seldom changes a count."""

    backend = "fpga"

    def logits(self, model: Model, start: int, stop: int) -> Int32Array:
        logits = super().logits(model, start, stop).copy()
        logits[:, -1] -= 1
        return logits


class BrokenEvaluator(ReferenceEvaluator):
    backend = "fpga"

    def correct(self, model: Model, start: int, stop: int) -> Int32Array:
        raise OSError("no bitstream")


class FaultyEvaluator(ReferenceEvaluator):
    backend = "fpga"

    def correct(self, model: Model, start: int, stop: int) -> Int32Array:
        raise Fault("DMA timed out")


@pytest.mark.parametrize(
    ("liar", "reason"),
    [
        (MiscountingEvaluator, "golden vector"),
        (WrongLogitsEvaluator, "wrong logits"),
        (BrokenEvaluator, "OSError: no bitstream"),
        (FaultyEvaluator, "DMA timed out"),
    ],
)
def test_a_backend_that_disagrees_is_refused_and_named(
    liar: EvaluatorFactory, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with pytest.raises(Unavailable, match="fpga refused") as caught:
            select("fpga", {"fpga": liar})
        assert reason in str(caught.value)
    assert "kernel backend fpga refused" in caplog.text


def test_auto_passes_over_a_backend_that_disagrees(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    liars: dict[str, EvaluatorFactory] = {"c": MiscountingEvaluator, "numba": WrongLogitsEvaluator}
    assert select("auto", liars) is ReferenceEvaluator
    assert "kernel backend c refused" in caplog.text
    assert "kernel backend numba refused" in caplog.text
    assert "kernel backend: reference" in caplog.text


def test_auto_with_no_honest_backend_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="no kernel backend agrees"):
        select("auto", dict.fromkeys(AUTO_ORDER, MiscountingEvaluator))


def test_a_factory_handed_in_is_used() -> None:
    class Overlay(ReferenceEvaluator):
        backend = "fpga-sim"

    assert select("fpga-sim", {"fpga-sim": Overlay}) is Overlay


def test_reference_by_name() -> None:
    assert select("reference") is ReferenceEvaluator


@pytest.mark.parametrize("name", ["fpga", "fpga-sim"])
def test_the_overlay_needs_its_driver(name: str) -> None:
    with pytest.raises(Unavailable, match="driver"):
        select(name)


def test_an_unknown_name() -> None:
    with pytest.raises(Unavailable, match="'cuda'"):
        select("cuda")


@pytest.mark.parametrize("machine", ["armv7l", "armv6l", "armv8l"])
def test_numba_is_refused_on_32_bit_arm(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(Unavailable, match="32-bit"):
        select("numba")


def test_numba_is_refused_with_32_bit_pointers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 64-bit kernel with a 32-bit userland says aarch64."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(struct, "calcsize", lambda _: 4)
    with pytest.raises(Unavailable, match="32-bit"):
        select("numba")


def test_numba_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_numba(name: str, *rest: Any) -> Any:
        if name.split(".", maxsplit=1)[0] in {"numba", "llvmlite"}:
            raise ImportError(f"No module named {name!r}")
        return real_import(name, *rest)

    for module in [name for name in sys.modules if name.startswith("bnnchain_kernels.") and "select" not in name]:
        if module.split(".")[1] in {"numba_sliced", "sliced_layers", "sliced_codes", "compiled", "vector"}:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", without_numba)
    with pytest.raises(Unavailable, match="cannot be imported"):
        select("numba")


def test_importing_the_room_loads_no_numba() -> None:
    code = (
        "import sys, pkgutil, bnnchain_kernels, bnnchain_kernels.select as s, bnnchain_kernels.golden;"
        "s.select('reference');"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'numba', 'llvmlite', 'cffi', 'bnnchain'}))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_self_check_runs_once_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = selection.find_difference
    monkeypatch.setattr(selection, "find_difference", lambda *given: (calls.append(given), real(*given))[1])
    for _ in range(3):
        select("reference")
    assert len(calls) == 1


def test_evaluators_of_a_selected_factory_evaluate() -> None:
    from random_networks import random_model, random_samples

    from bnnchain_kernels.model import Architecture, Dense

    rng = np.random.default_rng(1)
    architecture = Architecture(3, 3, 1, (Dense(2),))
    model = random_model(rng, architecture)
    samples = random_samples(rng, architecture, 5, model)
    evaluator = select("auto")(samples)
    assert evaluator.backend in AUTO_ORDER
    assert evaluator.correct(model, 0, 5).tolist() == ReferenceEvaluator(samples).correct(model, 0, 5).tolist()
