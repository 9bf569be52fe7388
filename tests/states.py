"""What tests ask of any state: all its money, and all of it that can be compared by value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnnchain.bnn.encoding import model_hash

if TYPE_CHECKING:
    from bnnchain.consensus.state import ChainState


def money(state: ChainState) -> int:
    """Return all money that a state holds: accounts, immature rewards, deposits and pots; its supply, to the unit."""
    pots = sum(entry.deposit + entry.bounty for entry in state.datasets.values())
    return state.ledger.total() + sum(coinbase.amount for coinbase in state.coinbases) + pots


def describe(state: ChainState) -> tuple[object, ...]:
    """Return everything of a state that a later verdict can depend on, comparable by value."""
    families = [
        (
            family.family_id,
            family.dataset_id,
            family.architecture,
            family.generation,
            family.model_count,
            family.join_offset,
            family.last_gain,
            [
                (each.block_id, each.height, each.generation, each.correct, each.miner, model_hash(each.model))
                for each in (*family.founders, family.best, family.latest)
            ],
            family.novelty and (family.novelty.seen_zero.tobytes(), family.novelty.seen_one.tobytes()),
        )
        for family in state.families
    ]
    return (
        (state.head, state.height, state.timestamp, state.weight, state.supply),
        families,
        list(state.datasets.items()),
        dict(state.ledger),
        state.coinbases,
        state.included_stale,
        [ancestor.head for ancestor in state.ancestors],
    )
