"""Uploaded data sets, double signers and blocks that lost their race: what the rarer rules speak of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builders import ALICE, CHAIN_ID, MINER, Builder
from learnable import uploaded_dataset

from bnnchain.consensus.election import election_order
from bnnchain.consensus.header import block_id
from bnnchain.consensus.transactions import sign_transaction
from bnnchain.consensus.types import Amount, BlockKind, DatasetId, Equivocation, Height, Upload

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from bnnchain.consensus.state import ChainState, DatasetState
    from bnnchain.consensus.types import Block, Header, Transaction, TransactionBody

IDLE = BlockKind.IDLE
INTERVAL_S = 60


def order(
    body: TransactionBody,
    key: Ed25519PrivateKey = ALICE,
    *,
    nonce: int = 0,
    fee: int = 1,
    expiry_height: int = 10**6,
) -> Transaction:
    """Return any signed transaction."""
    return sign_transaction(
        key, body, chain_id=CHAIN_ID, nonce=nonce, fee=Amount(fee), expiry_height=Height(expiry_height)
    )


def upload(
    number: int = 0,
    key: Ed25519PrivateKey = ALICE,
    *,
    nonce: int = 0,
    bounty: int = 0,
    min_family_acc_bp: int = 0,
    fee: int = 1,
) -> Transaction:
    """Return the signed proposal of :func:`uploaded_dataset`."""
    body = Upload(uploaded_dataset(number).manifest, min_family_acc_bp, Amount(bounty))
    return order(body, key, nonce=nonce, fee=fee)


def uploaded_id(number: int = 0) -> DatasetId:
    """Return the id of :func:`uploaded_dataset`."""
    return DatasetId(uploaded_dataset(number).manifest.dataset_id)


def entry(state: ChainState, number: int = 0) -> DatasetState:
    """Return where an uploaded data set stands."""
    return state.datasets[uploaded_id(number)]


def activate(builder: Builder, *numbers: int, **terms: int) -> None:
    """Extend a chain until data sets of these numbers, uploaded by ALICE, are active."""
    nonce = builder.state.ledger.account(upload().sender).nonce
    orders = [upload(number, nonce=nonce + index, **terms) for index, number in enumerate(numbers)]
    builder.extend(kind=IDLE, transactions=orders)
    while not all(entry(builder.state, number).is_active for number in numbers):
        builder.extend(kind=IDLE, proofs=builder.proofs(*numbers))


def found_uploaded(builder: Builder, number: int = 0, **changes: Any) -> Block:
    """Return a block with the first model of a family on an uploaded data set, late enough for any place."""
    order = election_order(builder.state, builder.state.spec.params_at(builder.state.height + 1))
    place = next(place for place in order if place.dataset_id == uploaded_id(number) and place.family is None)
    return builder.found(place, **{"timestamp": builder.state.timestamp + 100, **changes})


def evidence(first: Header, second: Header) -> Equivocation:
    """Return two headers in the order of their ids."""
    low, high = sorted((first, second), key=block_id)
    return Equivocation(low, high)


def double_signed(builder: Builder, key: Ed25519PrivateKey = MINER) -> Equivocation:
    """Extend a chain by a block of ``key`` that has a twin on the same parent; return the evidence."""
    twins = Builder(builder.state, key=key)
    first, second = (twins.idle(nonce=nonce) for nonce in (0, 1))
    builder.extend(kind=IDLE, key=key)
    return evidence(first.header, second.header)


def mined(builder: Builder, blocks: int = 1, *, key: Ed25519PrivateKey = MINER, **changes: object) -> list[Header]:
    """Extend a chain with a closed lottery by IDLE blocks that come on time; return their headers."""
    headers = []
    for _ in range(blocks):
        on_time = {"timestamp": builder.state.timestamp + INTERVAL_S, **changes}
        sealer = Builder(builder.state, key=key)
        block = sealer.mine(sealer.idle(**on_time))
        builder.take(block)
        headers.append(block.header)
    return headers


def loser(parent: ChainState, key: Ed25519PrivateKey = ALICE, **changes: object) -> Header:
    """Return the header of an IDLE block on ``parent`` whose lottery is won."""
    rival = Builder(parent, key=key)
    return rival.mine(rival.idle(**{"timestamp": parent.timestamp + INTERVAL_S, **changes})).header
