"""Whole blocks judged by all the rules, by the node and by the oracle: both accept or both refuse, and agree after.

The mutator changes what a block means and seals it again, so that the rules behind signature, lottery and Merkle root
are reached; plain bytes would never pass them.
"""

from __future__ import annotations

import random
from dataclasses import fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from builders import ALICE, BOB, CAROL, MINER, Builder, make_spec
from fuzz.target import Target, mutate_bytes, refusals
from learnable import count
from oracle import judging
from oracle.both import NOW, Both, of_node, of_oracle, pools
from oracle.drawing import KEYS, draw_block
from oracle.reading import Refused
from states import money

from bnnchain.bnn.encoding import apply_difference, decode_model, model_hash, shape_hash
from bnnchain.consensus.codec import decode_block, encode_block, encode_unsigned_transaction
from bnnchain.consensus.errors import BnnchainError, Invalid
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.transactions import sign_transaction
from bnnchain.consensus.types import BlockKind, Header, Transfer

if TYPE_CHECKING:
    from bnnchain.consensus.state import ChainState
    from bnnchain.consensus.types import Block, BlockId, Transaction

SEED = 7
BLOCKS = 14
SEALED_SHARE = 0.9
OWNERS = {public_key(key): key for key in (MINER, ALICE, BOB, CAROL)}
_INTEGERS = [field.name for field in fields(Header) if field.type == "int"]
_HASHES = [field.name for field in fields(Header) if field.name.endswith("_hash") or field.name == "dataset_id"]
_INTEREST = (0, 1, 2, 255, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)


@lru_cache
def scene() -> tuple[Both, tuple[bytes, ...]]:
    """Return states along a chain with uploads, proofs, stale headers and evidence, and the blocks between them."""
    rng = random.Random(SEED)
    both = Both(make_spec(max_family_generations=3, coinbase_maturity_blocks=4, stale_depth=3, family_patience=9))
    made: list[bytes] = []
    twins: list[tuple[Header, Header]] = []
    losers: list[Header] = []
    tip = 0
    while len(made) < BLOCKS:
        builder = Builder(both.states[tip][0], key=rng.choice(KEYS), seed=SEED)
        block = draw_block(builder, rng, twins, losers)
        twin = builder.seal(block, timestamp=block.header.timestamp + 1)
        new = both.judge(tip, encode_block(block), SEED)
        if new is not None:
            tip = new
            made.append(encode_block(block))
            twins.append((block.header, twin.header))
            losers.append(twin.header)
    return both, tuple(made)


@lru_cache
def numbers() -> dict[BlockId, int]:
    """Return where each state of the scene stands, by its head."""
    return {state.head: number for number, (state, _) in enumerate(scene()[0].states)}


def run(data: bytes) -> None:
    """Judge a block on the state that it names as its parent, or on the last one."""
    both, _ = scene()
    node, oracle = both.states[_parent(data)]
    try:
        expected: Any = judging.judge(oracle, data, NOW, pools())
    except Refused as refusal:
        expected = refusal
    try:
        after: Any = both.validator.judge(node, data, NOW).state
    except BnnchainError as error:
        after = error
    assert isinstance(after, BnnchainError) == isinstance(expected, Refused), f"node {after}, oracle {expected}"
    if isinstance(after, BnnchainError):
        with refusals():
            raise after
        return
    assert of_node(after) == of_oracle(expected)
    assert money(after) == after.supply
    assert encode_block(decode_block(data)) == data


def _parent(data: bytes) -> int:
    try:
        return numbers().get(decode_block(data).header.previous_hash, len(numbers()) - 1)
    except Invalid:
        return len(numbers()) - 1


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Return the block with something of it changed, nearly always sealed again by its miner."""
    try:
        block = decode_block(data)
    except Invalid:
        return mutate_bytes(rng.choice(scene()[1]), rng)
    state = scene()[0].states[_parent(data)][0]
    changes: dict[str, Any] = {}
    for _ in range(rng.randint(1, 2)):
        changes |= rng.choice(_CHANGES)(block, state, rng)
    if rng.random() > SEALED_SHARE:
        return mutate_bytes(data, rng)
    key = rng.choice(list(OWNERS.values())) if rng.random() < 0.1 else OWNERS.get(block.header.miner, MINER)
    try:
        return encode_block(Builder(state).seal(block, on=state, key=key, **changes))
    except (OverflowError, BnnchainError, ValueError, TypeError, IndexError):
        return mutate_bytes(data, rng)  # what cannot even be written


def _change_integer(block: Block, _state: ChainState, rng: random.Random) -> dict[str, Any]:
    name = rng.choice(_INTEGERS)
    old = getattr(block.header, name)
    return {name: rng.choice([max(0, old - 1), old + 1, old + 60, rng.choice(_INTEREST), rng.getrandbits(20)])}


def _change_kind(_block: Block, _state: ChainState, rng: random.Random) -> dict[str, Any]:
    return {"kind": rng.choice(list(BlockKind))}


def _change_hash(block: Block, _state: ChainState, rng: random.Random) -> dict[str, Any]:
    other = decode_block(rng.choice(scene()[1])).header
    name = rng.choice(_HASHES)
    flipped = bytearray(getattr(block.header, name))
    flipped[rng.randrange(32)] ^= 1
    return {name: rng.choice([getattr(other, name), bytes(32), bytes(flipped)])}


def _change_model(block: Block, state: ChainState, rng: random.Random) -> dict[str, Any]:
    """Other weights, with hashes and claims that are right for them where they can be read."""
    data = rng.choice([block.model, decode_block(rng.choice(scene()[1])).model])
    if rng.random() < 0.2:
        data = mutate_bytes(data, rng)
    elif data:
        flipped = bytearray(data)
        for _ in range(rng.randint(0, 3)):
            flipped[rng.randrange(len(flipped))] ^= 1 << rng.randrange(8)
        data = bytes(flipped)
    changes: dict[str, Any] = {"model": data}
    try:
        if block.header.kind == BlockKind.EVOLVE:
            model = apply_difference(state.families[block.header.family_id].best.model, data)
        else:
            model = decode_model(data)
        return changes | {
            "shape_hash": shape_hash(model.architecture),
            "model_hash": model_hash(model),
            "correct_new": count(model, block.header.dataset_id),
        }
    except (BnnchainError, IndexError, KeyError, ValueError):
        return changes


def _change_transactions(block: Block, _state: ChainState, rng: random.Random) -> dict[str, Any]:
    made = list(block.transactions)
    other = list(decode_block(rng.choice(scene()[1])).transactions)
    what = rng.randrange(4)
    if what == 0 and made:
        made.pop(rng.randrange(len(made)))
    elif what == 1:
        made[rng.randrange(len(made) + 1) : 0] = rng.sample(made + other, min(1, len(made + other)))
    elif what == 2:
        rng.shuffle(made)
    elif made:
        at = rng.randrange(len(made))
        made[at] = _change_transaction(made[at], rng)
    return {"transactions": made}


def _change_transaction(transaction: Transaction, rng: random.Random) -> Transaction:
    name = rng.choice(["version", "chain_id", "nonce", "fee", "expiry_height", "body"])
    if name == "body":
        body = transaction.body
        if isinstance(body, Transfer):
            body = replace(body, amount=rng.choice([0, body.amount + 1, 10**6, (1 << 64) - 1]))
        changed = replace(transaction, body=body)
    else:
        old = getattr(transaction, name)
        changed = replace(transaction, **{name: rng.choice([max(0, old - 1), old + 1, 0, 255])})
    key = OWNERS.get(changed.sender)
    if key is None or rng.random() < 0.1:
        return changed
    signed = sign_transaction(
        key,
        changed.body,
        chain_id=changed.chain_id,
        nonce=changed.nonce,
        fee=changed.fee,
        expiry_height=changed.expiry_height,
    )
    return signed if encode_unsigned_transaction(signed) == encode_unsigned_transaction(changed) else changed


def _change_proofs(block: Block, _state: ChainState, rng: random.Random) -> dict[str, Any]:
    made = list(block.proofs)
    other = [proof for raw in scene()[1] for proof in decode_block(raw).proofs]
    if made and rng.random() < 0.5:
        at = rng.randrange(len(made))
        proof = made.pop(at)
        if rng.random() < 0.7:
            leaf = mutate_bytes(proof.leaf, rng)[:1_024]
            made.insert(at, rng.choice([replace(proof, leaf=leaf), replace(proof, path=proof.path[::-1])]))
    elif other:
        made.insert(rng.randrange(len(made) + 1), rng.choice(other))
    return {"proofs": made}


def _change_stale(block: Block, state: ChainState, rng: random.Random) -> dict[str, Any]:
    near = [decode_block(raw).header for raw in scene()[1]]
    stale = rng.choice([header for header in near if abs(header.height - block.header.height) < 4] or near)
    if rng.random() < 0.7:
        parent = scene()[0].states[numbers()[stale.previous_hash]][0]
        idle = Builder(parent).idle(timestamp=stale.timestamp + rng.randrange(3), nonce=rng.randrange(9))
        stale = idle.header
    return {"stale": stale}


def _change_parent(block: Block, _state: ChainState, rng: random.Random) -> dict[str, Any]:
    return {"previous_hash": rng.choice(list(numbers())), "height": block.header.height + rng.choice([0, 0, 1])}


_CHANGES = [
    _change_integer,
    _change_kind,
    _change_hash,
    _change_model,
    _change_transactions,
    _change_transactions,
    _change_proofs,
    _change_stale,
    _change_parent,
]

TARGETS = [Target("judge", run, lambda: scene()[1], mutate, max_size_bytes=8_192, share=8)]
