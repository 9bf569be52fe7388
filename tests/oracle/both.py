"""Node and oracle side by side: every block judged by both, every state that follows compared."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from builders import GENESIS_TIME, make_validator, outcome
from learnable import known_datasets

from bnnchain.consensus.spec import encode_spec
from bnnchain.consensus.state import genesis_state
from bnnchain.datasets.payload import encode_payload
from oracle import judging
from oracle.reading import Refused

if TYPE_CHECKING:
    from bnnchain.consensus.state import ChainState

NOW = GENESIS_TIME + 10**6


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
