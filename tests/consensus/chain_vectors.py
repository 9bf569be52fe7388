"""Whole chains and refused blocks for the golden vectors; `make_vectors.py` writes them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builders import (
    ALICE,
    BOB,
    GENESIS_TIME,
    Builder,
    close_opened,
    make_spec,
    make_validator,
    open_chain,
    outcome,
    transfer,
)
from refusals import all_refusals
from uploads import activate, double_signed, found_uploaded, loser, mined, order, uploaded_id

from bnnchain.bnn.encoding import (
    model_hash,
)
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.spec import encode_spec
from bnnchain.consensus.state import ChainState, genesis_state
from bnnchain.consensus.types import (
    Amount,
    BlockKind,
    Bounty,
)

if TYPE_CHECKING:
    from bnnchain.consensus.spec import ChainSpec
    from bnnchain.consensus.types import Block

MAX_VECTOR_BYTES = 1 << 14


def summary(state: ChainState) -> dict[str, Any]:
    return {
        "id": state.head,
        "weight": f"{state.weight:x}",
        "supply": state.supply,
        "datasets": {
            key.hex(): [int(entry.status), entry.window, entry.deposit, entry.bounty, entry.record]
            for key, entry in state.datasets.items()
        },
        "accounts": {key.hex(): [account.balance, account.nonce] for key, account in sorted(state.ledger)},
        "families": [
            [family.generation, family.model_count, family.best.correct, model_hash(family.best.model)]
            for family in state.families
        ],
    }


def chain_vector(name: str, spec: ChainSpec, raws: list[bytes], states: list[ChainState]) -> dict[str, Any]:
    return {
        "name": name,
        "spec": encode_spec(spec),
        "genesis": spec.genesis_id,
        "blocks": [{"raw": raw, **summary(state)} for raw, state in zip(raws, states, strict=True)],
    }


def learned_chain() -> dict[str, Any]:
    """Return two founders, three children, an IDLE block with transfers, and the next family after the first closes."""
    spec = make_spec(max_family_generations=3)
    builder, raws, states = Builder(genesis_state(spec)), [], []
    for number in range(8):
        kind = BlockKind.IDLE if number == 3 else None
        orders = [transfer(nonce=0, fee=3), transfer(ALICE, ALICE, nonce=1)] if number == 3 else ()
        raws += builder.extend(kind=kind, transactions=orders)
        states.append(builder.state)
    return chain_vector("learned", spec, raws, states)


def mined_chain() -> dict[str, Any]:
    """Return blocks of a closed lottery, some early and some late, so that the target moves."""
    spec = make_spec(initial_target=1 << 252, is_lottery_open=0)
    builder, raws, states = Builder(genesis_state(spec)), [], []
    for pause in (60, 5, 300, 60):
        block = builder.mine(builder.next(timestamp=builder.state.timestamp + pause))
        builder = Builder(builder.after(builder.state, block))
        raws.append(encode_block(block))
        states.append(builder.state)
    return chain_vector("mined", spec, raws, states)


def uploaded_chain() -> dict[str, Any]:
    """Return a data set's life: proposed, active, learned on, topped up, suspended, closed; and a double signer."""
    spec = make_spec(coinbase_maturity_blocks=4, suspended_blocks=3, suspend_blocks=12)
    builder = Recorder(genesis_state(spec))
    builder.extend(2)
    activate(builder, 0, bounty=5_000)
    builder.take(found_uploaded(builder))
    builder.extend(8)
    proof = double_signed(builder)
    topped = order(Bounty(uploaded_id(), Amount(700)), BOB, nonce=1)
    builder.extend(kind=BlockKind.IDLE, key=ALICE, transactions=[order(proof, BOB), topped])
    builder.extend(9, kind=BlockKind.IDLE)
    return chain_vector("uploaded", spec, builder.raws, builder.states)


def raced_chain() -> dict[str, Any]:
    """Return a closed lottery whose blocks carry the headers that lost against them."""
    spec = make_spec(is_lottery_open=0)
    builder = Recorder(genesis_state(spec))
    for _ in range(4):
        parent = builder.state
        mined(builder)
        mined(builder, stale=loser(parent))
    return chain_vector("raced", spec, builder.raws, builder.states)


class Recorder(Builder):
    """A builder that keeps each block and each state."""

    def __init__(self, state: ChainState) -> None:
        super().__init__(state)
        self.raws: list[bytes] = []
        self.states: list[ChainState] = []

    def take(self, block: Block) -> bytes:
        raw = super().take(block)
        self.raws.append(raw)
        self.states.append(self.state)
        return raw


def verdict(state: ChainState, raw: bytes) -> str:
    """Return the code with which a block is refused as a child of ``state``."""
    code = outcome(lambda: make_validator().judge(state, raw, GENESIS_TIME + 10**6))
    if not isinstance(code, str):
        raise TypeError(code)
    return code


def invalid_vectors() -> dict[str, Any]:
    """Return one block for each way of breaking a rule, with the chain in front of it."""
    specs: dict[str, bytes] = {}
    blocks: dict[str, bytes] = {}
    invalid = []
    for refusal in all_refusals():
        with tempfile.TemporaryDirectory() as directory:
            spec = make_spec(initial_target=refusal.target, **refusal.params)
            chain = open_chain(Path(directory) / "chain.db", spec)
            builder = Builder(chain)
            builder.extend(refusal.blocks)
            raw = refusal.make(builder)
            parents = chain.store.active_blocks(1, 99)
            close_opened()
        if len(raw) > MAX_VECTOR_BYTES:
            continue
        specs[spec.genesis_id.hex()] = encode_spec(spec)
        blocks |= {identity.hex(): parent for identity, parent in parents}
        invalid.append(
            {
                "name": refusal.make.__name__,
                "code": verdict(builder.state, raw),
                "genesis": spec.genesis_id,
                "parents": [identity for identity, _ in parents],
                "raw": raw,
            }
        )
    return {"specs": specs, "blocks": blocks, "invalid": invalid}
