from __future__ import annotations

import ast
import re
from pathlib import Path

from bnnchain.consensus.errors import CODES, Invalid
from bnnchain_kernels.errors import MAX_SHOWN_CHARACTERS

ROOT = Path(__file__).resolve().parents[2]
JUDGES = (
    "miner/bnnchain/wire.py",
    "miner/bnnchain/bnn/encoding.py",
    "miner/bnnchain/consensus",
    "miner/bnnchain/chain/chain.py",
    "miner/bnnchain/chain/store.py",
    "miner/bnnchain/chain/mempool.py",
    "miner/bnnchain/chain/validator.py",
    "kernels/bnnchain_kernels/model.py",
    "kernels/bnnchain_kernels/evaluator.py",
)
"""What judges bytes of peers."""
OF_THE_OPERATOR = {"unknown-preset"}


def raised(path: Path) -> set[str]:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Invalid"]
    return {call.args[0].value for call in named if isinstance(call.args[0], ast.Constant)}


def test_every_code_that_is_raised_is_listed_and_every_listed_code_is_raised() -> None:
    paths = [
        path for judge in JUDGES for path in ([ROOT / judge] if judge.endswith(".py") else (ROOT / judge).glob("*.py"))
    ]
    codes = set().union(*(raised(path) for path in paths))
    datasets = set().union(*(raised(path) for path in (ROOT / "miner/bnnchain/datasets").glob("*.py")))
    assert codes - OF_THE_OPERATOR - set(CODES) == set()
    assert set(CODES) - codes - datasets == set()


def test_codes_are_stable_words() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)+", code) for code in CODES)


def test_the_protocol_lists_the_codes_of_blocks_in_their_order() -> None:
    text = (ROOT / "PROTOCOL.md").read_text()
    section = text[text.index("## 11. Order of validation") : text.index("## What is not claimed")]
    named = set(re.findall(r"[a-z]+(?:-[a-z]+)+", section))
    elsewhere = {"bad-chunk", "bad-samples", "bad-spec", "mempool-full", "fee-too-low", "other-checkpoint"}
    assert set(CODES) - elsewhere - named == set()


def test_what_a_refusal_shows_of_outside_values_is_short_and_obeyed_by_no_terminal() -> None:
    shown = str(Invalid("bad-x", name="\x1b[2J\u202e", reason="x" * 10_000, size=7, place="Zürich"))
    assert shown == f"bad-x (name=\\x1b[2J\\u202e, reason={'x' * MAX_SHOWN_CHARACTERS}, size=7, place=Zürich)"
    assert len(str(Invalid("bad-x", name="\0" * 10_000))) < MAX_SHOWN_CHARACTERS + 20
