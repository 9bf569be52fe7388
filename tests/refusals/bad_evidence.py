"""Evidence of double signing that proves nothing, and stale headers that are worth nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from builders import ALICE, BOB, GENESIS_TIME, MINER, Builder, ticket_base
from uploads import IDLE, INTERVAL_S, double_signed, evidence, loser, mined, order

from bnnchain.consensus import lottery
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.header import sign_header
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import MAX_TARGET, Equivocation
from refusals import refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.consensus.types import Header


def reported(name: str, change: Callable[[Equivocation], Equivocation], **params: int) -> None:
    """Register good evidence made bad by ``change``."""

    def make(builder: Builder) -> bytes:
        return encode_block(builder.idle(transactions=[order(change(double_signed(builder)))]))

    make.__name__ = name
    refused("bad-evidence", **params)(make)


BOBS = public_key(BOB)


def signed(header: Header, **fields: object) -> Header:
    return sign_header(replace(header, **fields), MINER)


reported("same_header_twice", lambda both: Equivocation(both.first, both.first))
reported("headers_in_the_other_order", lambda both: Equivocation(both.second, both.first))
reported("forged_second_signature", lambda both: replace(both, second=replace(both.second, signature=bytes(64))))
reported("forged_first_signature", lambda both: replace(both, first=replace(both.first, signature=bytes(64))))
reported("on_two_parents", lambda both: evidence(both.first, signed(both.second, previous_hash=bytes(32))))
reported("one_of_another_chain", lambda both: evidence(both.first, signed(both.second, chain_id=8)))
reported(
    "both_of_another_chain", lambda both: evidence(*(signed(each, chain_id=8) for each in (both.first, both.second)))
)
reported("of_two_miners", lambda both: evidence(both.first, sign_header(replace(both.second, miner=BOBS), BOB)))
reported("neither_on_this_chain", lambda both: evidence(signed(both.first, nonce=8), signed(both.second, nonce=9)))
reported("reward_already_spendable", lambda both: both, coinbase_maturity_blocks=1)


@refused("bad-evidence")
def reward_slashed_before(builder: Builder) -> bytes:
    proof = double_signed(builder)
    builder.extend(kind=IDLE, key=ALICE, transactions=[order(proof, BOB)])
    return encode_block(builder.idle(transactions=[order(proof)]))


@refused("bad-evidence")
def reward_slashed_by_other_evidence_in_the_same_block(builder: Builder) -> bytes:
    twins = Builder(builder.state)
    headers = [twins.idle(nonce=nonce).header for nonce in range(3)]
    builder.extend(kind=IDLE)
    made = [order(evidence(headers[0], other), nonce=nonce) for nonce, other in enumerate(headers[1:])]
    return encode_block(builder.idle(key=ALICE, transactions=made))


@refused("bad-tx-signature")
def evidence_signed_by_another(builder: Builder) -> bytes:
    report = order(double_signed(builder))
    return encode_block(builder.idle(transactions=[replace(report, sender=order(report.body, BOB).sender)]))


def stale(name: str, make_header: Callable[[Builder], Header], **params: int) -> None:
    """Register a block on a closed lottery with a stale header, on a chain of three blocks."""

    def make(builder: Builder) -> bytes:
        mined(builder, 3)
        header = make_header(builder)
        return encode_block(builder.mine(builder.idle(stale=header, timestamp=builder.state.timestamp + INTERVAL_S)))

    make.__name__ = name
    refused("bad-stale", **{"is_lottery_open": 0, **params})(make)


def parent_of_head(builder: Builder) -> Header:
    """Return a good stale header: a rival of the head."""
    return loser(builder.state.ancestors[-1])


def lost_ticket(builder: Builder) -> Header:
    parent = builder.state.ancestors[-1]
    rival = Builder(parent, key=ALICE)
    for nonce in range(1_000):
        header = rival.idle(timestamp=parent.timestamp + INTERVAL_S, nonce=nonce).header
        if not lottery.is_winning(header.y, ticket_base(parent, header), header.target):
            return header
    raise AssertionError


def included(builder: Builder) -> Header:
    header = parent_of_head(builder)
    mined(builder, stale=header)
    return header


def false_value(builder: Builder) -> Header:
    return sign_header(replace(parent_of_head(builder), y=bytes(32)), ALICE)


def own_block(builder: Builder) -> Header:
    return mined(builder)[0]


def late(builder: Builder, seconds: int) -> Header:
    """Return a stale header dated ``seconds`` after its parent; the including block is 120 after it."""
    rival = Builder(builder.state.ancestors[-1], key=ALICE)
    return rival.mine(rival.idle(timestamp=rival.state.timestamp + seconds)).header


stale("its_block_is_the_head", own_block)
stale("its_block_is_below_the_head", lambda builder: (mined(builder), mined(builder))[0][0])
stale("its_parent_is_the_head", lambda builder: loser(builder.state))
stale("its_parent_is_too_deep", lambda builder: loser(genesis_state(builder.state.spec)), stale_depth=2)
stale(
    "its_parent_is_unknown",
    lambda builder: sign_header(replace(parent_of_head(builder), previous_hash=bytes(32)), ALICE),
)
stale("included_before", included)
stale("its_signature_is_forged", lambda builder: replace(parent_of_head(builder), signature=bytes(64)))
stale("its_value_is_false", false_value)
stale("its_ticket_lost", lost_ticket, target=1 << 253)
stale("its_target_is_another", lambda builder: loser(builder.state.ancestors[-1], target=MAX_TARGET - 1))
stale("its_height_is_wrong", lambda builder: loser(builder.state.ancestors[-1], height=9))
stale("its_time_falls", lambda builder: sign_header(replace(parent_of_head(builder), timestamp=GENESIS_TIME), ALICE))
stale("it_comes_from_the_future", lambda builder: late(builder, 2 * INTERVAL_S + 121))
stale("where_it_is_worth_nothing", lambda builder: loser(genesis_state(builder.state.spec)), stale_depth=0)


@refused("bad-stale")
def where_headers_cost_nothing(builder: Builder) -> bytes:
    parent = builder.state
    builder.extend(2, kind=IDLE)
    return encode_block(builder.idle(stale=Builder(parent, key=ALICE).idle().header))


@refused("bad-body-root", is_lottery_open=0)
def stale_header_taken_out(builder: Builder) -> bytes:
    mined(builder, 2)
    block = builder.mine(builder.idle(stale=parent_of_head(builder), timestamp=builder.state.timestamp + INTERVAL_S))
    return encode_block(replace(block, stale=None))


@refused("bad-body-root", is_lottery_open=0)
def stale_header_signed_again(builder: Builder) -> bytes:
    """Ed25519 signatures are unique for honest signers only: the root covers the signature too."""
    mined(builder, 2)
    header = parent_of_head(builder)
    block = builder.mine(builder.idle(stale=header, timestamp=builder.state.timestamp + INTERVAL_S))
    return encode_block(replace(block, stale=replace(header, signature=bytes(64))))
