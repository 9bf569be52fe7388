"""The node and the oracle judge the same blocks: the same are accepted, and the same is true after them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from builders import Builder, make_spec, open_chain
from refusals import Refusal, all_refusals

from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.types import BlockKind
from oracle.both import Both
from oracle.drawing import KEYS, draw_block

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("is_open", [1, 0], ids=["open", "closed"])
@pytest.mark.parametrize("seed", range(4))
def test_random_trees_of_blocks_are_judged_alike(seed: int, is_open: int) -> None:
    rng = random.Random(seed * 2 + is_open)
    both = Both(
        make_spec(
            is_lottery_open=is_open,
            min_families=1 + seed % 2,
            coinbase_maturity_blocks=4,
            max_family_generations=3,
            family_patience=9,
            max_active_datasets=2,
            stale_depth=3,
            relief_s=60 * (seed % 2),
            dataset_life_blocks=12 * (seed % 2),
            gain_halflife_s=30,
            gain_of_last_bp=5_000,
        )
    )
    tip, twins, losers = 0, [], []
    for number in range(22):
        at = rng.randrange(max(0, len(both.states) - 3), len(both.states)) if rng.random() < 0.2 else tip
        builder = Builder(both.states[at][0], key=rng.choice(KEYS), seed=seed)
        block = draw_block(builder, rng, twins, losers)
        twin = builder.seal(block, timestamp=block.header.timestamp + 1) if rng.random() < 0.5 else None
        if twin is not None and not is_open:
            twin = builder.mine(twin)
        new = both.judge(at, encode_block(block), seed)
        if new is not None:
            tip = new
        if twin is not None:
            twins.append((block.header, twin.header))
            losers.append(twin.header)
        mutated = mutate(encode_block(block), rng)
        both.judge(at, mutated, f"{seed} {number}")
    assert both.accepted >= 12, (f"seed {seed}", both.why)
    assert both.refused >= 10


def mutate(raw: bytes, rng: random.Random) -> bytes:
    """Return the block with some bytes wrong, cut, or sealed again with a wrong field."""
    data = bytearray(raw)
    what = rng.random()
    if what < 0.2:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.randint(1, 2)):
        data[rng.randrange(439 if what < 0.5 else 0, len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_sealed_blocks_with_wrong_fields_are_judged_alike(seed: int) -> None:
    """Under a right y and signature, so that every later rule is reached."""
    rng = random.Random(100 + seed)
    both = Both(make_spec(max_family_generations=5))
    tip = 0
    for number in range(14):
        builder = Builder(both.states[tip][0], seed=seed)
        block = draw_block(builder, rng, [], [])
        header = block.header
        field = rng.choice(
            ["height", "timestamp", "kind", "family_id", "generation", "model_count", "correct_new", "correct_parent",
             "eval_total", "model", "transactions", "nonce"]
        )  # fmt: skip
        if field == "model":
            model = bytearray(block.model or b"\0")
            model[rng.randrange(len(model))] ^= 1 << rng.randrange(8)
            wrong: Any = bytes(model)
        elif field == "kind":
            wrong = rng.choice(list(BlockKind))
        elif field == "transactions":
            wrong = block.transactions[::-1][:2]
        else:
            wrong = max(0, getattr(header, field) + rng.choice([-1, 1, 5]))
        tampered = builder.seal(block, **{field: wrong})
        both.judge(tip, encode_block(tampered), f"{seed} {number} {field}")
        new = both.judge(tip, encode_block(block), f"{seed} {number}")
        tip = tip if new is None else new
    assert both.accepted > 8
    assert both.refused > 3


@pytest.mark.parametrize("refusal", all_refusals()[::3], ids=str)
def test_what_the_node_refuses_the_oracle_refuses(refusal: Refusal, tmp_path: Path) -> None:
    """A third of all ways to break a rule; each oracle state on the way agrees."""
    spec = make_spec(initial_target=refusal.target, **refusal.params)
    chain = open_chain(tmp_path / "chain.db", spec)
    builder = Builder(chain)
    builder.extend(refusal.blocks)
    raw = refusal.make(builder)
    both, at = Both(spec), 0
    for _, parent in chain.store.active_blocks(1, 99):
        number = both.judge(at, parent)
        assert number is not None
        at = number
    assert both.judge(at, raw) is None
