"""`bnnchain spec`: what a constitution says, and whether it is the one that others have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from builders import make_spec
from click.testing import CliRunner

from bnnchain.cli.spec import spec as command
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.params import Params
from bnnchain.home import format_spec, is_for_tests

if TYPE_CHECKING:
    from pathlib import Path

SPEC = make_spec(is_lottery_open=0)
GENESIS = SPEC.genesis_id.hex()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "chain.json"
    path.write_text(format_spec(SPEC))
    return path


def refusal(*arguments: str) -> BaseException:
    result = CliRunner().invoke(command, [*arguments])
    assert result.exception is not None
    return result.exception


def test_show_tells_identity_coins_and_every_rule(file: Path) -> None:
    result = CliRunner().invoke(command, ["show", str(file), "--json", "-"])
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert told["genesis"] == GENESIS
    assert told["dataset_id"] == SPEC.dataset.dataset_id.hex()
    assert told["first_coins"] == sum(amount for _, amount in SPEC.allocations)
    assert Params(**told["schedule"]["0"]) == SPEC.params_at(0)
    for_people = CliRunner().invoke(command, ["show", str(file)]).output
    assert all(name in for_people for name in (GENESIS, "block_interval_s", "dataset_life_blocks"))


def test_check_compares_the_genesis_id(file: Path) -> None:
    for arguments in ([], [GENESIS], [GENESIS.upper()]):
        result = CliRunner().invoke(command, ["check", str(file), *arguments])
        assert result.exit_code == 0
        assert result.output.startswith(f"{SPEC.name}, genesis {GENESIS}")


def test_check_refuses_another_chain(file: Path) -> None:
    error = refusal("check", str(file), "ab" * 32)
    assert isinstance(error, Invalid)
    assert error.code == "other-chain"
    assert GENESIS in str(error)
    assert "ab" * 32 in str(error)


def test_one_changed_rule_is_another_chain(file: Path) -> None:
    fields = json.loads(file.read_text())
    fields["schedule"]["0"]["subsidy"] += 1
    file.write_text(json.dumps(fields))
    error = refusal("check", str(file), GENESIS)
    assert isinstance(error, Invalid)
    assert error.code == "other-chain"


@pytest.mark.parametrize(("genesis", "code"), [("ab", "bad-id"), ("zz" * 32, "bad-id")])
def test_check_refuses_what_is_no_id(file: Path, genesis: str, code: str) -> None:
    error = refusal("check", str(file), genesis)
    assert isinstance(error, Invalid)
    assert error.code == code


def test_no_spec(file: Path) -> None:
    assert isinstance(refusal("show", str(file) + "x"), Unavailable)
    file.write_text("{}")
    error = refusal("check", str(file))
    assert isinstance(error, Invalid)
    assert error.code == "bad-spec"


@pytest.mark.parametrize("is_open", [0, 1])
def test_a_chain_for_tests_is_called_one(tmp_path: Path, is_open: int) -> None:
    spec = make_spec(is_lottery_open=is_open)
    (tmp_path / "spec").write_text(format_spec(spec))
    assert is_for_tests(spec) is bool(is_open)
    said = CliRunner().invoke(command, ["check", str(tmp_path / "spec")]).output
    assert ("whose coins are worth nothing" in said) is bool(is_open)
