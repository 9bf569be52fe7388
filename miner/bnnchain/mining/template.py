"""A block in the making: the header that a candidate would have, before its ticket is drawn."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bnnchain.bnn.encoding import encode_difference, encode_model, model_hash, shape_hash
from bnnchain.consensus import election
from bnnchain.consensus.codec import HEADER_BYTES, MAX_BLOCK_PROOFS
from bnnchain.consensus.difficulty import next_target
from bnnchain.consensus.errors import Fault
from bnnchain.consensus.header import body_root, idle_header
from bnnchain.consensus.params import Params, params_hash
from bnnchain.consensus.transition import elapsed
from bnnchain.consensus.types import (
    AvailabilityProof,
    Block,
    BlockId,
    BlockKind,
    Header,
    Height,
    ModelHash,
    PublicKey,
    ShapeHash,
    Transaction,
)
from bnnchain.wire import ZERO_HASH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnnchain.chain.mempool import Mempool
    from bnnchain.consensus.election import Place
    from bnnchain.consensus.state import ChainState, FamilyState
    from bnnchain_kernels.model import Model


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A model for a place of the election order, with its exact count on the pool; None of both for IDLE."""

    place: Place | None
    model: Model | None
    correct: int


IDLE = Candidate(None, None, 0)
"""What a block without a model carries."""


def next_timestamp(state: ChainState, now: int) -> int:
    """Return the timestamp of a block made ``now`` (seconds) on ``state``: the clock's, or the least allowed."""
    return max(now, state.timestamp)


def open_places(state: ChainState, now: int) -> tuple[Place, ...]:
    """Return the places of the election order that a block made ``now`` may fill, first place first."""
    params = state.spec.params_at(state.height + 1)
    return election.open_places(state, elapsed(state, next_timestamp(state, now)), params)


def draft_block(
    state: ChainState,
    candidate: Candidate,
    miner: PublicKey,
    transactions: Sequence[Transaction],
    now: int,
    proofs: Sequence[AvailabilityProof] = (),
    stale: Header | None = None,
) -> Block:
    """Return the block of a candidate with nonce, y and signature still empty."""
    params = state.spec.params_at(state.height + 1)
    header = idle_header(
        chain_id=state.spec.chain_id,
        height=Height(state.height + 1),
        previous_hash=state.head,
        timestamp=next_timestamp(state, now),
        miner=miner,
        body_root=body_root(transactions, proofs, stale),
        params_hash=params_hash(params),
        target=next_target(state, params),
    )
    if candidate.place is not None and candidate.model is not None:
        header = _with_model(state, header, candidate.place, candidate.model, candidate.correct)
    return Block(header, model_bytes(candidate), tuple(transactions), tuple(proofs), stale)


def select_transactions(mempool: Mempool, params: Params, taken_bytes: int) -> list[Transaction]:
    """Return the waiting transactions that fit beside what has taken ``taken_bytes`` of the body, best fee first."""
    framing = 16 + 3 * (params.max_block_transactions + MAX_BLOCK_PROOFS)
    room = min(params.max_block_bytes - HEADER_BYTES - taken_bytes - framing, params.max_transactions_bytes)
    return mempool.select(params.max_block_transactions, max(0, room))


def model_bytes(candidate: Candidate) -> bytes:
    """Return the candidate's model as its block carries it: whole, as a difference, or nothing."""
    if candidate.place is None or candidate.model is None:
        return b""
    if candidate.place.kind == BlockKind.EVOLVE:
        return encode_difference(_family(candidate.place).best.model, candidate.model)
    return encode_model(candidate.model)


def _with_model(state: ChainState, header: Header, place: Place, model: Model, correct: int) -> Header:
    family = place.family
    is_evolved = place.kind == BlockKind.EVOLVE
    return replace(
        header,
        kind=place.kind,
        dataset_id=place.dataset_id,
        family_id=place.family_id,
        generation=_family(place).generation + 1 if is_evolved else 0,
        model_count=family.model_count + 1 if family else 1,
        previous_model_hash=family.latest.block_id if family else BlockId(ZERO_HASH),
        shape_hash=ShapeHash(shape_hash(model.architecture)),
        model_hash=ModelHash(model_hash(model)),
        correct_new=correct,
        correct_parent=_family(place).best.correct if is_evolved else 0,
        eval_total=state.datasets[place.dataset_id].manifest.pool_size,
    )


def _family(place: Place) -> FamilyState:
    if place.family is None:
        raise Fault("an EVOLVE place always has a family")
    return place.family
