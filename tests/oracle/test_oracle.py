"""The node and the oracle judge the same blocks: the same are accepted, and the same is true after them."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from builders import ALICE, BOB, GENESIS_TIME, MINER, Builder, make_spec, make_validator, open_chain, outcome, transfer
from learnable import OWN, known_datasets
from refusals import Refusal, all_refusals
from uploads import entry, evidence, order, upload, uploaded_id

from bnnchain.consensus.booking import Booking
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.election import open_places
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.spec import encode_spec
from bnnchain.consensus.state import ChainState, genesis_state
from bnnchain.consensus.types import Amount, BlockKind, Bounty
from bnnchain.datasets.payload import encode_payload
from oracle import judging
from oracle.reading import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.consensus.types import Block, Header

NOW = GENESIS_TIME + 10**6
KEYS = (MINER, ALICE, BOB)


@lru_cache
def pools() -> dict[bytes, tuple[list[int], list[int]]]:
    made = {}
    for identity, dataset in known_datasets().items():
        payload, size = encode_payload(dataset.pool), dataset.manifest.pool_size
        width = len(payload) // size - 1
        images = [int.from_bytes(payload[at * width : (at + 1) * width], "little") for at in range(size)]
        made[bytes(identity)] = (images, list(payload[size * width :]))
    return made


def of_node(state: ChainState) -> dict[str, Any]:
    return {
        "head": state.head, "height": state.height, "weight": state.weight, "supply": state.supply,
        "accounts": {bytes(key): (account.balance, account.nonce) for key, account in state.ledger},
        "coinbases": [(c.mature_height, c.owner, c.amount, c.block_id) for c in state.coinbases],
        "families": [
            (f.dataset_id, f.generation, f.model_count, f.join_offset, f.last_gain, f.best.correct, f.best.block_id,
             f.best.model_hash, f.latest.block_id, len(f.founders), f.waited_blocks,
             f.novelty and int(np.unpackbits(f.novelty.seen_zero & f.novelty.seen_one).sum()))
            for f in state.families
        ],
        "datasets": [
            (key, e.status.name.lower(), e.since_height, e.window.bit_count(), e.below_blocks, e.deposit, e.bounty,
             e.own_bounty, e.unfilled_blocks, e.record)
            for key, e in state.datasets.items()
        ],
        "stale": (list(state.included_stale), [ancestor.head for ancestor in state.ancestors]),
    }  # fmt: skip


def of_oracle(state: dict[str, Any]) -> dict[str, Any]:
    return {
        **{name: state[name] for name in ("head", "height", "weight", "supply", "accounts")},
        "coinbases": [(c["height"], c["owner"], c["amount"], c["block"]) for c in state["coinbases"]],
        "families": [
            (f["dataset"], f["generation"], f["count"], f["offset"], f["last_gain"], f["best"]["correct"],
             f["best"]["block"], f["best"]["model"]["hash"], f["latest"]["block"], len(f["founders"]), f["waited"],
             f["seen"] and (f["seen"][0] & f["seen"][1]).bit_count())
            for f in state["families"]
        ],
        "datasets": [
            (key, e["status"], e["since"], sum(e["window"]), e["below"], e["deposit"], e["pot"], e["own_pot"],
             e["unfilled"], e["record"])
            for key, e in state["datasets"].items()
        ],
        "stale": (state["included"], [ancestor["head"] for ancestor in state["ancestors"]]),
    }  # fmt: skip


class Both:
    """A tree of blocks judged by node and oracle side by side; fails where they differ."""

    def __init__(self, spec: Any) -> None:
        self.validator = make_validator()
        self.states: list[tuple[ChainState, dict[str, Any]]] = [
            (genesis_state(spec), judging.genesis(encode_spec(spec)))
        ]
        assert of_node(self.states[0][0]) == of_oracle(self.states[0][1])
        self.accepted = self.refused = 0
        self.why: list[str] = []

    def judge(self, at: int, raw: bytes, seed: object = "") -> int | None:
        """Judge a block on state number ``at``; return the new state's number."""
        node, oracle = self.states[at]
        verdict = outcome(lambda: self.validator.judge(node, raw, NOW).state)
        try:
            after: Any = judging.judge(oracle, raw, NOW, pools())
        except Refused as refusal:
            after = str(refusal)
        assert isinstance(verdict, str) == isinstance(after, str), f"node {verdict}, oracle {after}, seed {seed}"
        if isinstance(verdict, str):
            self.refused += 1
            self.why.append(verdict)
            return None
        assert of_node(verdict) == of_oracle(after), f"seed {seed}"
        self.states.append((verdict, after))
        self.accepted += 1
        return len(self.states) - 1


def orders_for(state: ChainState, rng: random.Random, twins: list[tuple[Header, Header]]) -> list[Any]:
    """Return transactions that the next block can hold, of any kind."""
    booking, made = Booking(state), []
    for _ in range(rng.randrange(4)):
        key = rng.choice(KEYS)
        nonce, what = booking.books().ledger.account(public_key(key)).nonce, rng.random()
        if what < 0.4:
            draft = transfer(key, rng.choice(KEYS), nonce=nonce, amount=rng.randint(1, 5_000), fee=rng.randrange(9))
        elif what < 0.6:
            target = rng.choice([OWN, uploaded_id(0), uploaded_id(1)])
            draft = order(Bounty(target, Amount(rng.randint(1, 9_000))), key, nonce=nonce)
        elif what < 0.85 or not twins:
            draft = upload(rng.randrange(3), key, nonce=nonce, bounty=rng.randrange(3_000))
        else:
            draft = order(evidence(*rng.choice(twins)), key, nonce=nonce)
        try:
            booking.apply(draft)
        except Invalid:
            if rng.random() < 0.97:
                continue
        made.append(draft)
    return made


def draw_block(builder: Builder, rng: random.Random, twins: list[tuple[Header, Header]], losers: list[Header]) -> Block:
    """Return a block of any kind on the builder's state, nearly always valid."""
    state = builder.state
    params = state.spec.params_at(state.height + 1)
    late = state.timestamp + rng.choice([1, 30, 60, 60, 61, 90])
    open_ = [n for n in range(3) if uploaded_id(n) in state.datasets and not entry(state, n).is_closed]
    changes: dict[str, Any] = {
        "timestamp": late,
        "transactions": orders_for(state, rng, twins),
        "proofs": builder.proofs(*(n for n in open_ if rng.random() < 0.7)),
    }
    if losers and rng.random() < (0.05 if params.is_lottery_open else 0.5):
        changes["stale"] = rng.choice(losers[-2:])
    places = open_places(state, late - state.timestamp, params)
    place = rng.choice(places) if places and rng.random() < 0.6 else None
    try:
        if place is None:
            block = builder.idle(**changes)
        elif place.kind == BlockKind.EVOLVE:
            block = builder.evolve(place, **changes)
        else:
            block = builder.found(place, **changes)
    except AssertionError:
        block = builder.idle(**changes)
    return builder.mine(block) if not params.is_lottery_open else block


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
