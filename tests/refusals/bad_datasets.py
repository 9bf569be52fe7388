"""Uploads, bounties, proofs of data sets and models on them that break one rule each."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from builders import COINS, OWN, Builder, founder, private_key, tiny_dataset
from learnable import UPLOADED_POOL_SIZE
from uploads import IDLE, activate, found_uploaded, order, upload, uploaded_id

from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.params import MAX_MONEY
from bnnchain.consensus.types import Amount, Bounty, DatasetId, Upload
from bnnchain_kernels.model import Architecture, Dense
from refusals import refused
from refusals.bad_transactions import transactions

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnnchain.consensus.types import AvailabilityProof

transactions("bad-upload", "pool_too_small", upload(), min_pool_size=UPLOADED_POOL_SIZE + 1)
transactions("bad-upload", "least_accuracy_above_the_whole", upload(min_family_acc_bp=10_001))
transactions("dataset-known", "the_chains_own", order(Upload(tiny_dataset().manifest, 0, Amount(0))))
transactions("dataset-known", "twice_in_one_block", upload(), upload(nonce=1))
transactions("datasets-full", "one_more_than_may_wait", upload(), upload(1, nonce=1), max_pending_datasets=1)
transactions("datasets-full", "none_may_wait", upload(), max_pending_datasets=0)
transactions("unknown-dataset", "bounty_for_nothing", order(Bounty(DatasetId(bytes(32)), Amount(1))))
transactions("unknown-dataset", "bounty_before_the_upload", order(Bounty(uploaded_id(), Amount(1))), upload(nonce=1))
transactions("bad-tx-amount", "empty_bounty", order(Bounty(OWN, Amount(0))))
transactions("bad-tx-amount", "bounty_of_more_than_all_money", order(Bounty(OWN, Amount(MAX_MONEY + 1))))
transactions("bad-tx-amount", "upload_with_more_than_all_money", upload(bounty=MAX_MONEY + 1))
transactions("bad-tx-balance", "bounty_one_unit_too_high", order(Bounty(OWN, Amount(COINS)), fee=1))
# 300 images of 6 bytes are 2 KiB at 10 units, the deposit is 1,000.
transactions("bad-tx-balance", "upload_one_unit_too_dear", upload(bounty=COINS - 1_020, fee=1))
transactions("bad-tx-signature", "upload_with_another_manifest", replace(upload(), body=upload(1).body))


@refused("unknown-dataset", pending_blocks=1, availability_least=3)
def bounty_for_a_closed_data_set(builder: Builder) -> bytes:
    builder.extend(kind=IDLE, transactions=[upload()])
    builder.extend(kind=IDLE)
    return encode_block(builder.idle(transactions=[order(Bounty(uploaded_id(), Amount(1)), nonce=1)]))


@refused("dataset-known", pending_blocks=1, availability_least=3)
def upload_of_a_closed_data_set(builder: Builder) -> bytes:
    builder.extend(kind=IDLE, transactions=[upload()])
    builder.extend(kind=IDLE)
    return encode_block(builder.idle(transactions=[upload(nonce=1)]))


@refused("datasets-full", max_pending_datasets=1, suspend_blocks=1, availability_least=3)
def upload_while_a_suspended_one_waits(builder: Builder) -> bytes:
    activate(builder, 0)
    builder.extend(kind=IDLE)
    return encode_block(builder.idle(transactions=[upload(1, nonce=1)]))


def proofs(name: str, change: Callable[[Builder], tuple[AvailabilityProof, ...]], **params: int) -> None:
    def make(builder: Builder) -> bytes:
        builder.extend(kind=IDLE, transactions=[upload(number, nonce=number) for number in range(2)])
        return encode_block(builder.idle(proofs=change(builder)))

    make.__name__ = name
    refused("bad-availability", **params)(make)


proofs("piece_cut_short", lambda builder: (replace(builder.proofs(0)[0], leaf=builder.proofs(0)[0].leaf[:-1]),))
proofs("empty_piece", lambda builder: (replace(builder.proofs(0)[0], leaf=b""),))
proofs("path_cut_short", lambda builder: (replace(builder.proofs(0)[0], path=()),))
proofs("path_too_long", lambda builder: (replace(builder.proofs(0)[0], path=(*builder.proofs(0)[0].path, bytes(32))),))
proofs("piece_of_another_data_set", lambda builder: (replace(builder.proofs(0)[0], dataset_id=uploaded_id(1)),))
proofs("same_proof_twice", lambda builder: builder.proofs(0) * 2)
proofs("proofs_out_of_order", lambda builder: builder.proofs(0, 1)[::-1])
proofs("proof_of_the_chains_own", lambda builder: (replace(builder.proofs(0)[0], dataset_id=OWN),))
proofs("proof_of_an_unknown_one", lambda builder: builder.proofs(2))


@refused("bad-availability")
def piece_that_another_miner_must_show(builder: Builder) -> bytes:
    builder.extend(kind=IDLE, transactions=[upload()])
    own = builder.proofs(0)
    for number in range(5, 99):
        other = Builder(builder.state, key=private_key(number)).proofs(0)
        if other != own:
            return encode_block(builder.idle(proofs=other))
    raise AssertionError


@refused("bad-availability")
def piece_that_the_block_before_had_to_show(builder: Builder) -> bytes:
    builder.extend(kind=IDLE, transactions=[upload()])
    before = builder.proofs(0)
    while builder.proofs(0) == before:
        builder.extend(kind=IDLE)
    return encode_block(builder.idle(proofs=before))


@refused("bad-availability")
def proof_in_the_block_of_the_upload(builder: Builder) -> bytes:
    return encode_block(builder.idle(transactions=[upload()], proofs=builder.proofs(0)))


@refused("bad-availability", pending_blocks=1, availability_least=3)
def proof_of_a_closed_one(builder: Builder) -> bytes:
    builder.extend(kind=IDLE, transactions=[upload()])
    builder.extend(kind=IDLE)
    return encode_block(builder.idle(proofs=builder.proofs(0)))


@refused("bad-body-root")
def proof_taken_out(builder: Builder) -> bytes:
    builder.extend(kind=IDLE, transactions=[upload()])
    return encode_block(replace(builder.idle(proofs=builder.proofs(0)), proofs=()))


@refused("bad-body-root")
def proof_put_in(builder: Builder) -> bytes:
    builder.extend(kind=IDLE, transactions=[upload()])
    return encode_block(replace(builder.idle(), proofs=builder.proofs(0)))


@refused("bad-place")
def founder_for_a_pending_data_set(builder: Builder) -> bytes:
    builder.extend(kind=IDLE, transactions=[upload()])
    place = replace(builder.place(), dataset_id=uploaded_id())
    return encode_block(builder.found(place))


@refused("bad-family-accuracy")
def founder_below_what_the_upload_states(builder: Builder) -> bytes:
    activate(builder, 0, min_family_acc_bp=9_000)
    return encode_block(found_uploaded(builder))


@refused("bad-family-accuracy", majority_margin_bp=5_000)
def founder_no_better_than_the_commonest_class(builder: Builder) -> bytes:
    activate(builder, 0)
    return encode_block(found_uploaded(builder))


@refused("bad-row-reuse", min_families=2, min_family_acc_bp=1_000)
def founder_with_a_neuron_of_another_family(builder: Builder) -> bytes:
    builder.take(builder.found(builder.place(), founder(Architecture(6, 6, 1, (Dense(64), Dense(4))), 0)))
    model = founder(Architecture(6, 6, 1, (Dense(64), Dense(8), Dense(4))), 7)
    rows = model.weights[1].copy()
    rows[3] = builder.state.families[0].latest.model.weights[1][2]
    thief = replace(model, weights=(model.weights[0], rows, model.weights[2]))
    return encode_block(builder.found(builder.place(), thief))
