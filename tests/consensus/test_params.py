from __future__ import annotations

import ast
from dataclasses import fields, replace
from pathlib import Path

import pytest
from builders import make_params
from hypothesis import given
from hypothesis import strategies as st

from bnnchain.consensus import params as params_module
from bnnchain.consensus.params import (
    DEFAULT_PRESET,
    MAX_BLOCK_BYTES,
    MAX_MONEY,
    PRESETS,
    Params,
    encode_params,
    params_hash,
    preset,
    read_params,
)
from bnnchain.wire import Reader
from bnnchain_kernels.errors import Invalid

ROOT = Path(__file__).resolve().parents[2]
NAMES = [field.name for field in fields(Params)]


@given(st.data())
def test_parameters_come_back_and_every_field_is_in_their_hash(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(NAMES))
    params = make_params()
    changed = replace(params, **{name: getattr(params, name) + 1})
    reader = Reader(encode_params(changed))
    assert read_params(reader) == changed
    assert reader.remaining == 0
    assert params_hash(changed) != params_hash(params)


def test_every_field_takes_eight_bytes() -> None:
    assert len(encode_params(make_params())) == 8 * len(NAMES)
    with pytest.raises(Invalid, match="bad-encoding"):
        read_params(Reader(encode_params(make_params())[:-1]))


@pytest.mark.parametrize(
    "change",
    [
        {"max_block_bytes": MAX_BLOCK_BYTES + 1},
        {"subsidy": MAX_MONEY + 1},
        {"idle_subsidy": MAX_MONEY + 1},
        {"block_interval_s": 0},
        {"skip_s": 0},
        {"n_eval": 0},
        {"ticket_flips": 0},
        {"min_population": 0},
        {"min_families": 0},
        {"suspend_blocks": 0},
        {"suspended_blocks": 0},
        {"stale_divisor": 0},
        {"availability_least": 0},
        {"availability_window": 0},
        {"availability_window": 2, "availability_least": 3},
        {"availability_window": 65, "availability_least": 3},
        {"bounty_miner_bp": 8_001, "bounty_parent_bp": 2_000},
        {"slash_reporter_bp": 10_001},
        {"max_shared_rows_bp": 10_001},
        {"stale_depth": 65},
        {"max_active_datasets": 65},
        {"max_pending_datasets": 65},
        {"skip_s": -1},
        {"future_limit_s": 1 << 64},
        {"n_eval": 1.0},
        {"n_eval": "1"},
        {"is_idle_allowed": True},
    ],
    ids=str,
)
def test_parameters_out_of_bounds_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(Invalid, match="bad-spec"):
        make_params(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"availability_window": 64, "availability_least": 64},
        {"availability_window": 1, "availability_least": 1},
        {"bounty_miner_bp": 8_000, "bounty_parent_bp": 2_000},
        {"slash_reporter_bp": 10_000, "max_shared_rows_bp": 10_000},
        {"stale_depth": 64, "max_active_datasets": 64, "max_pending_datasets": 64},
        {"stale_depth": 0, "max_active_datasets": 0, "max_pending_datasets": 0},
        {"subsidy": MAX_MONEY, "idle_subsidy": 0, "max_block_bytes": MAX_BLOCK_BYTES},
        {"upload_deposit": (1 << 64) - 1, "upload_fee_per_kib": (1 << 64) - 1, "pending_blocks": 0},
    ],
    ids=str,
)
def test_parameters_at_their_bounds_are_accepted(change: dict[str, int]) -> None:
    params = make_params(**change)
    assert read_params(Reader(encode_params(params))) == params


def test_main_closes_the_lottery_and_asks_for_gain_by_time() -> None:
    main = preset("main")
    assert (main.is_lottery_open, main.is_idle_allowed, main.block_interval_s, main.future_limit_s) == (0, 1, 60, 120)
    assert (main.min_population_acc_bp, main.gain_of_last_bp, main.gain_halflife_s) == (8, 0, 30)
    assert (main.min_family_acc_bp, main.min_family_diff_bp, main.min_population_diff_bp) == (8_000, 200, 50)
    assert (main.min_families, main.min_population, main.max_family_generations, main.family_patience) == (
        2,
        5,
        1_024,
        128,
    )
    assert (main.max_connection_count, main.max_gate_macs) == (1 << 18, 1 << 38)
    assert (main.n_eval, main.ticket_flips, main.skip_s, main.relief_s) == (1_024, 1, 20, 0)
    assert (main.max_transactions_bytes, main.min_pool_size) == (255 * 1_024, 10_000)
    paper = preset("paper-low")
    assert (paper.relief_s, paper.max_block_transactions) == (600, 146)
    assert (paper.availability_window, paper.availability_least, paper.suspend_blocks) == (30, 20, 200)


def test_the_presets_differ_as_the_paper_says() -> None:
    """Table 2: difficulty low, medium, high is 1, 2, 5 % more accuracy and 0.5, 1, 1.3 % other weights."""
    low, medium, high = (preset(f"paper-{difficulty}") for difficulty in ("low", "medium", "high"))
    assert [each.min_population_acc_bp for each in (low, medium, high)] == [100, 200, 500]
    assert [each.min_population_diff_bp for each in (low, medium, high)] == [50, 100, 130]
    same = {"min_population_acc_bp": 0, "min_population_diff_bp": 0}
    assert replace(low, **same) == replace(medium, **same) == replace(high, **same)
    assert low.is_lottery_open == 1
    assert low.is_idle_allowed == 0
    assert low.min_population == 5


def test_regtest_takes_any_gain_and_idle_blocks() -> None:
    regtest = preset("regtest")
    assert (regtest.is_idle_allowed, regtest.min_population_acc_bp, regtest.min_population) == (1, 0, 2)


def test_all_presets_have_different_hashes() -> None:
    assert len({params_hash(each) for each in PRESETS.values()}) == len(PRESETS) == 5


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Invalid, match="paper-low") as caught:
        preset("paper-lo")
    assert caught.value.code == "unknown-preset"


def modules() -> list[Path]:
    return sorted(path for room in ("miner", "kernels", "fpga") for path in (ROOT / room).rglob("*.py"))


def strings(tree: ast.AST) -> list[ast.Constant]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def docstrings(tree: ast.AST) -> set[int]:
    """Return the ids of strings that stand alone as statements: they steer nothing."""
    return {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_path_names_a_preset(path: Path) -> None:
    """All presets are data: their names stand in the table of ``consensus/params.py`` and nowhere else."""
    tree = ast.parse(path.read_text())
    silent = docstrings(tree)
    if path == ROOT / "miner" / "bnnchain" / "consensus" / "params.py":
        for statement in tree.body:
            targets = [statement.target] if isinstance(statement, ast.AnnAssign) else getattr(statement, "targets", [])
            if any(isinstance(target, ast.Name) and target.id in ("PRESETS", "DEFAULT_PRESET") for target in targets):
                silent |= {id(node) for node in strings(statement)}
    named = [node for node in strings(tree) if id(node) not in silent and node.value in PRESETS]
    assert [f"{path.name}:{node.lineno}: {node.value!r}" for node in named] == []


def test_the_scan_for_preset_names_can_fail() -> None:
    assert DEFAULT_PRESET in PRESETS
    assert len(modules()) > 30
    assert any(node.value in PRESETS for node in strings(ast.parse(Path(params_module.__file__).read_text())))
