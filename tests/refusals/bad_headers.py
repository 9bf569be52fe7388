"""Headers that do not follow from their parent."""

from __future__ import annotations

from dataclasses import replace

from builders import (
    ALICE,
    GENESIS_TIME,
    POOL_SIZE,
    Builder,
    ticket_base,
    ticket_value,
    transfer,
)

from bnnchain.consensus import lottery, signatures
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.types import BlockKind
from bnnchain.wire import ZERO_HASH
from refusals import FOUNDED, evolved, fields, refused

fields("bad-version", "found", version=2)
fields("bad-chain-id", "found", chain_id=8)
fields("bad-height", "found", height=0)
fields("bad-height", "evolve", blocks=FOUNDED, height=4)
fields("time-too-old", "found", timestamp=GENESIS_TIME - 1)
fields("time-too-new", "found", timestamp=GENESIS_TIME + 10**6 + 121)
fields("time-too-new", "idle", timestamp=(1 << 64) - 1)
fields("bad-params", "found", params_hash=bytes(32))
fields("bad-target", "found", target=(1 << 256) - 2)
fields("bad-target", "idle", target=0)
fields("bad-place", "found", dataset_id=b"\1" * 32)
fields("bad-place", "found", family_id=1)
fields("bad-place", "found", kind=BlockKind.EVOLVE)
fields("bad-place", "evolve", blocks=FOUNDED, kind=BlockKind.FOUND)
fields("bad-place", "evolve", blocks=FOUNDED, family_id=1)
fields("bad-generation", "found", generation=1)
fields("bad-generation", "evolve", blocks=FOUNDED, generation=0)
fields("bad-generation", "evolve", blocks=FOUNDED, generation=2)
fields("bad-model-count", "found", model_count=0)
fields("bad-model-count", "found", blocks=1, model_count=1)
fields("bad-model-count", "evolve", blocks=FOUNDED, model_count=4)
fields("bad-previous-model", "found", previous_model_hash=b"\1" * 32)
fields("bad-previous-model", "found", blocks=1, previous_model_hash=ZERO_HASH)
fields("bad-previous-model", "evolve", blocks=FOUNDED, previous_model_hash=ZERO_HASH)
fields("bad-parent-claim", "found", correct_parent=1)
fields("bad-parent-claim", "evolve", blocks=FOUNDED, correct_parent=0)
fields("bad-eval-total", "found", eval_total=POOL_SIZE - 1)
fields("bad-eval-total", "evolve", blocks=FOUNDED, eval_total=POOL_SIZE + 1)
for unused in ("family_id", "generation", "model_count", "correct_new", "correct_parent", "eval_total"):
    fields("bad-unused-field", "idle", **{unused: 1})
for unused in ("dataset_id", "previous_model_hash", "shape_hash", "model_hash"):
    fields("bad-unused-field", "idle", **{unused: b"\1" + bytes(31)})
fields("bad-header-signature", "found", signature=bytes(64))
fields("bad-header-signature", "idle", miner=b"\1" + bytes(31))
fields("bad-lottery-value", "found", y=ZERO_HASH)
fields("bad-lottery-value", "evolve", blocks=FOUNDED, y=b"\xff" * 32)
fields("bad-body-root", "found", body_root=b"\1" * 32)
fields("bad-shape", "found", shape_hash=ZERO_HASH)
fields("bad-shape", "evolve", blocks=FOUNDED, shape_hash=ZERO_HASH)
fields("bad-model-hash", "found", model_hash=ZERO_HASH)
fields("bad-model-hash", "evolve", blocks=FOUNDED, model_hash=ZERO_HASH)
fields("bad-family-accuracy", "found", correct_new=0)


@refused("bad-height", blocks=FOUNDED)
def child_of_a_grandparent(builder: Builder) -> bytes:
    grandparent = builder.chain.state_at(builder.chain.store.active_id(1))
    return builder.tamper(evolved(builder), previous_hash=grandparent.head)


@refused("bad-place", blocks=FOUNDED, min_families=2)
def second_place_too_early(builder: Builder) -> bytes:
    # The second place opens skip_s = 5 seconds after the parent.
    return encode_block(builder.next(1, timestamp=builder.state.timestamp + 4))


@refused("bad-place", blocks=FOUNDED + 1, max_family_generations=1)
def evolution_of_a_closed_family(builder: Builder) -> bytes:
    place = replace(builder.place(), kind=BlockKind.EVOLVE, family_id=0, family=builder.state.families[0])
    return encode_block(builder.evolve(place, correct_new=POOL_SIZE))


@refused("bad-header-signature")
def one_bit_of_the_signature(builder: Builder) -> bytes:
    block = builder.idle()
    signature = bytes([block.header.signature[0] ^ 1]) + block.header.signature[1:]
    return builder.tamper(block, signature=signature)


@refused("bad-header-signature")
def signature_with_another_spelling_of_s(builder: Builder) -> bytes:
    signature = builder.idle().header.signature
    spelling = int.from_bytes(signature[32:], "little") + signatures._L
    return builder.tamper(builder.idle(), signature=signature[:32] + spelling.to_bytes(32, "little"))


@refused("bad-header-signature")
def signed_by_somebody_else(builder: Builder) -> bytes:
    return builder.tamper(builder.idle(), signature=builder.idle(key=ALICE).header.signature)


@refused("bad-lottery-value", blocks=FOUNDED)
def value_of_another_nonce(builder: Builder) -> bytes:
    block = evolved(builder)
    return builder.tamper(block, nonce=1, y=block.header.y)


@refused("bad-lottery-value")
def value_of_another_transaction_list(builder: Builder) -> bytes:
    return builder.tamper(builder.idle(), transactions=[transfer()], y=builder.idle().header.y)


@refused("lottery-lost", is_lottery_open=0, target=1 << 252)
def losing_ticket(builder: Builder) -> bytes:
    block = builder.idle()
    for nonce in range(1_000):
        header = replace(block.header, nonce=nonce)
        y = ticket_value(builder.state, header)
        if not lottery.is_winning(y, ticket_base(builder.state, header), header.target):
            return builder.tamper(block, nonce=nonce)
    raise AssertionError
