"""`bnnchain bench`: the figures hang together, and what cannot be measured is said."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from e2e.processes import bnnchain

from bnnchain.bnn.zoo import ZOO
from bnnchain.cli import bench_overlay, bench_rows
from bnnchain.cli.bench import TARGETS_BP, Report, bench, find_all_variants
from bnnchain.cli.bench_rows import Variant, find_roof, find_variants, measure_rate, measure_ticket_row, train_parent
from bnnchain.consensus import lottery
from bnnchain.datasets.dataset import build_dataset
from bnnchain.datasets.digits import load_digits
from bnnchain_kernels import native
from bnnchain_kernels.errors import Unavailable
from bnnchain_kernels.evaluator import Samples
from bnnchain_kernels.measure import Roof, needed_macs, random_network
from bnnchain_kernels.model import Architecture, Dense
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

ROOFS = [Roof("zmm tile", 1000.0), Roof("ymm Harley-Seal", 400.0), Roof("popcnt tile", 200.0), Roof("64-bit words", 40)]


def test_a_quick_run_writes_what_it_shows(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    done = bnnchain("bench", "--quick", "--backend", "c", "--model", "cnn-digits", "--json", str(file))
    found = json.loads(file.read_text())
    assert found["roof_gmac_per_s"] == max(found["roofs"].values()) > 0
    assert found["not_measured"] == {}
    (row,) = found["rows"]
    assert (row["model"], row["backend"], row["isa"], row["threads"]) == ("cnn-digits", "c", native.choose_isa(), 1)
    macs = needed_macs(ZOO["cnn-digits"])
    assert row["macs_per_image"] == macs
    assert row["gmac_per_s"] == pytest.approx(row["images_per_s"] * macs / 1e9, abs=1e-3)
    share = row["gmac_per_s_per_core"] / found["roofs"][row["roof"]]
    assert row["roof_fraction"] == pytest.approx(share, abs=1e-3)
    assert [each["target_bp"] for each in found["search"]] == list(TARGETS_BP)
    assert all(each["candidates_per_s_per_core"] > 0 for each in found["search"])
    strict, any_gain = (each["survivors_share"] for each in found["search"])
    assert 0 <= strict < any_gain <= 1
    assert [each["model"] for each in found["tickets"]] == ["cnn-digits"]
    assert f"{row['images_per_s']:,.0f}" in done.stdout
    assert "Traceback" not in done.stderr


def test_json_to_stdout_leaves_the_tables_to_stderr() -> None:
    done = bnnchain("bench", "--quick", "--backend", "reference", "--model", "cnn-digits", "--json", "-")
    found = json.loads(done.stdout)
    assert [row["backend"] for row in found["rows"]] == ["reference"]
    assert found["rows"][0]["roof_fraction"] is None
    assert [row["backend"] for row in found["tickets"]] == ["reference"]
    assert "cnn-digits" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "fpga"], "overlay|pynq"),
        (["--data", "."], "dataset fetch mnist"),
    ],
)
def test_what_is_not_here_is_said_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.delattr(bench_rows, "measure_throughput_row")
    result = CliRunner().invoke(bench, ["--quick", *arguments])
    assert isinstance(result.exception, Unavailable)
    assert re.search(said, str(result.exception))


@pytest.mark.parametrize("arguments", [["--backend", "gpu"], ["--model", "resnet"], ["--threads", "0"], ["extra"]])
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 2
    assert arguments[-1] in result.output


def test_auto_says_which_backend_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_the_reference(name: str) -> object:
        if name == "reference":
            return ReferenceEvaluator
        raise Unavailable(f"{name} is missing")

    monkeypatch.setattr(bench_rows, "select", only_the_reference)
    report = Report()
    assert find_all_variants(report, "auto", [1], every_isa=True) == [Variant("reference")]
    assert report.not_measured == {"c": "c is missing", "numba": "numba is missing"}
    with pytest.raises(Unavailable, match="c is missing"):
        find_all_variants(report, "c", [1], every_isa=True)


def test_an_instruction_set_asked_for_and_not_here_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BNNCHAIN_ISA", "z80")
    with pytest.raises(Unavailable, match="z80"):
        find_variants("c", [1], every_isa=True)


def test_every_instruction_set_is_measured_once_per_thread_count() -> None:
    fastest, *others = native.instruction_sets()
    assert find_variants("c", [1, 2], every_isa=False) == [Variant("c", fastest, 1), Variant("c", fastest, 2)]
    assert find_variants("c", [1], every_isa=True)[1:] == [Variant("c", isa, 1) for isa in others]
    assert find_variants("reference", [1, 2], every_isa=True) == [Variant("reference")]


def test_a_kernel_is_held_to_its_own_instructions() -> None:
    def found(isa: str, roofs: list[Roof]) -> float | None:
        roof = find_roof(isa, roofs)
        return None if roof is None else roof.gmac_per_s

    assert found("avx512f", ROOFS) == 1000
    assert found("avx512f", ROOFS[1:]) == 400, "a processor without vpopcntq"
    assert found("avx2", ROOFS) == 400
    assert found("sse2", ROOFS) == found("128-bit", ROOFS) == 200
    assert found("portable", ROOFS) == 40
    assert found("numpy", ROOFS) is None
    assert found("avx512f", []) is None


def test_a_rate_is_of_processor_time_and_counts_all_items() -> None:
    batches: list[int] = []

    def spin(count: int) -> None:
        batches.append(count)
        stop = time.process_time() + count * 0.0005
        while time.process_time() < stop:
            pass

    rate = measure_rate(spin, 0.05)
    assert 1000 < rate <= 2000
    assert batches[0] == 1
    assert max(batches) > 2
    assert max(batches[1:]) <= 128


def test_tickets_are_those_of_the_lottery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every nonce once, each with the logits that the protocol's own mutant has."""
    monkeypatch.setattr(bench_rows, "N_EVAL", 64)
    drawn = []
    monkeypatch.setattr(bench_rows, "lottery_value", lambda seed, logits: drawn.append((seed, logits.copy())))
    row = measure_ticket_row("cnn-digits", "c", 0.001)
    assert row.tickets_per_s_per_core > 0
    assert len({seed for seed, _ in drawn}) == len(drawn) >= 2
    base, samples = random_network(ZOO["cnn-digits"], 64, bench_rows.SEED)
    evaluator = native.NativeEvaluator(samples, 1)
    for seed, logits in drawn[:3]:
        assert (evaluator.logits(lottery.mutant(base, seed, 1), 0, 64) == logits).all()


def test_a_data_set_that_fits_no_shape_is_refused() -> None:
    pool = load_digits().pool
    other = Samples(pool.height, pool.width, 3, pool.classes, pool.images[:, :24], pool.labels)
    dataset = build_dataset("other", bytes([1, 2, 3]), other, other, licence="x", origin="x")
    with pytest.raises(Unavailable, match="fits other"):
        train_parent(dataset)


def test_the_overlay_is_modelled_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "overlay.json"
    done = bnnchain("bench", "--backend", "fpga-sim", "--json", str(file))
    assert "modelled at 100 MHz" in done.stdout
    assert "nothing was run on hardware" in done.stdout
    rows = {row["model"]: row for row in json.loads(file.read_text())["rows"]}
    # The design's ideals for valid convolutions, 64 cycles a layer allowed on top.
    for name, ideal in (("cnn-4k", 1_928), ("cnn-94k", 6_430)):
        row = rows[name]
        assert sum(row["layer_cycles"]) <= ideal + 64 * len(ZOO[name].layers)
        assert row["images_per_s"] == pytest.approx(100e6 * 16 / row["batch_cycles"])


def test_a_network_that_does_not_fit_the_overlay_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ZOO, "wide", Architecture(28, 28, 1, (Dense(4_096), Dense(4_096), Dense(10))))
    (row,) = bench_overlay.overlay_rows(["wide"])
    assert row.refused
    assert row.images_per_s == 0
