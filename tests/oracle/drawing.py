"""Random blocks, nearly always valid, with transactions, proofs and stale headers of every kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builders import ALICE, BOB, MINER, Builder, transfer
from learnable import OWN
from uploads import entry, evidence, order, upload, uploaded_id

from bnnchain.consensus.booking import Booking
from bnnchain.consensus.election import open_places
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import Amount, BlockKind, Bounty

if TYPE_CHECKING:
    import random

    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Block, Header

KEYS = (MINER, ALICE, BOB)


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
