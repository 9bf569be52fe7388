"""What an uploader gains from labels that only it can predict, from a pool it withholds, and from its own bounty."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from builders import ALICE, CHAIN_ID, COINS, Builder, make_spec, open_chain, outcome
from learnable import CLASSES, SIDE, family_shape, known_datasets, payload_tree, random_model, uploaded_dataset
from states import money

from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.election import Place, election_order
from bnnchain.consensus.header import block_id
from bnnchain.consensus.registry import prove_available
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.state import DatasetStatus
from bnnchain.consensus.transactions import sign_transaction, upload_fee
from bnnchain.consensus.types import Amount, BlockKind, DatasetId, Height, Upload
from bnnchain.datasets.dataset import Dataset, build_dataset
from bnnchain.datasets.payload import encode_payload
from bnnchain_kernels.evaluator import Samples, predict
from bnnchain_kernels.model import build_model, unpack_weights
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bnnchain.chain.chain import Chain
    from bnnchain.consensus.types import Transaction
    from bnnchain_kernels.model import Model

POOL = 300
BOUNTY = 9_000
SECRET_SHAPE = family_shape(8)
UPLOADER = public_key(ALICE)


@pytest.fixture
def secret() -> Iterator[Dataset]:
    """A data set whose images are noise and whose labels are what a random model answers."""
    rng = np.random.default_rng(77)
    images = np.packbits(rng.random((POOL, SIDE * SIDE)) < 0.5, axis=1, bitorder="little")
    unlabelled = Samples(SIDE, SIDE, 1, CLASSES, images, np.zeros(POOL, np.uint8))
    labels = predict(ReferenceEvaluator(unlabelled).logits(random_model(SECRET_SHAPE, 5), 0, POOL))
    pool = Samples(SIDE, SIDE, 1, CLASSES, images, labels.astype(np.uint8))
    dataset = build_dataset("secret", b"\x80", pool, pool.take(np.arange(10)), licence="CC0-1.0", origin="tests")
    identity = DatasetId(dataset.manifest.dataset_id)
    known_datasets()[identity] = dataset
    yield dataset
    del known_datasets()[identity]


def upload(dataset: Dataset, bounty: int = 0, nonce: int = 0) -> Transaction:
    body = Upload(dataset.manifest, 2_800, Amount(bounty))
    return sign_transaction(ALICE, body, chain_id=CHAIN_ID, nonce=nonce, fee=Amount(1), expiry_height=Height(10**6))


def activated(builder: Builder, dataset: Dataset, bounty: int = 0) -> Chain:
    """Return the chain with the data set uploaded and shown available until it is active."""
    identity, chain = DatasetId(dataset.manifest.dataset_id), builder.chain
    builder.extend(kind=BlockKind.IDLE, transactions=[upload(dataset, bounty)])
    chain.add_dataset(identity, encode_payload(dataset.pool))
    while chain.head.datasets[identity].status != DatasetStatus.ACTIVE:
        proof = prove_available(chain.head.head, public_key(builder.key), dataset.manifest, payload_tree(identity))
        builder.extend(kind=BlockKind.IDLE, proofs=[proof])
    return chain


def place_on(builder: Builder, dataset_id: DatasetId) -> Place:
    """Return the first place of the order that is the data set's, whenever it opens."""
    order = election_order(builder.state, builder.state.spec.params_at(builder.state.height + 1))
    return next(place for place in order if place.dataset_id == dataset_id)


def test_labels_that_only_the_uploader_can_predict_pay_no_more_than_blocks_without_a_model(
    tmp_path: Path, secret: Dataset
) -> None:
    builder = Builder(open_chain(tmp_path / "chain.db", make_spec(min_families=1)), key=ALICE)
    chain = activated(builder, secret)
    params, identity = chain.spec.params_at(1), DatasetId(secret.manifest.dataset_id)
    place = place_on(builder, identity)
    block = builder.found(place, random_model(SECRET_SHAPE, 5), timestamp=chain.head.timestamp + 2 * params.skip_s)
    assert block.header.correct_new == POOL, "a perfect model, for nothing"
    chain.import_block(encode_block(block))
    reward = next(each for each in chain.head.coinbases if each.block_id == block_id(block.header))
    assert reward.amount == params.idle_subsidy == params.subsidy // 4
    # What the upload cost stays lost: the fee is burned, and the deposit held.
    assert (
        chain.head.ledger.account(UPLOADER).balance
        <= COINS
        - upload_fee(Upload(secret.manifest, 5_000, Amount(0)), params)
        - params.upload_deposit
        + 4 * params.idle_subsidy
    )
    # Nobody can better a perfect model: the family stands still, and the record leaves nothing to pay for.
    assert chain.head.datasets[identity].record == POOL
    assert money(chain.head) == chain.head.supply


def test_a_founder_that_names_the_commonest_class_is_refused_whatever_the_uploader_states(tmp_path: Path) -> None:
    """A data set with nearly one class: its uploader states 0 %, yet every node counts the classes."""
    rng = np.random.default_rng(3)
    labels = (rng.random(POOL) < 0.1).astype(np.uint8)
    images = np.packbits(rng.random((POOL, SIDE * SIDE)) < 0.5, axis=1, bitorder="little")
    pool = Samples(SIDE, SIDE, 1, CLASSES, images, labels)
    dataset = build_dataset("one-class", b"\x80", pool, pool.take(np.arange(10)), licence="CC0-1.0", origin="tests")
    identity = DatasetId(dataset.manifest.dataset_id)
    known_datasets()[identity] = dataset
    try:
        builder = Builder(open_chain(tmp_path / "chain.db"), key=ALICE)
        chain = activated(builder, dataset)
        place = place_on(builder, identity)
        lazy = always_zero(seed=1)
        later = chain.head.timestamp + 2 * chain.spec.params_at(1).skip_s
        raw = encode_block(builder.found(place, lazy, timestamp=later))
        assert outcome(lambda: chain.import_block(raw)) == "bad-family-accuracy"
    finally:
        del known_datasets()[identity]


def test_a_pool_that_nobody_can_fetch_is_never_elected_and_costs_its_deposit(tmp_path: Path) -> None:
    builder = Builder(open_chain(tmp_path / "chain.db"), key=ALICE)
    dataset, params = uploaded_dataset(), builder.state.spec.params_at(1)
    identity = DatasetId(dataset.manifest.dataset_id)
    builder.extend(kind=BlockKind.IDLE, transactions=[upload(dataset, BOUNTY)])
    supply = builder.state.supply
    for _ in range(params.pending_blocks):
        assert all(place.dataset_id != identity for place in (builder.place(0),))
        builder.extend(kind=BlockKind.IDLE)
    entry = builder.state.datasets[identity]
    assert (entry.status, entry.deposit, entry.bounty) == (DatasetStatus.CLOSED, 0, 0)
    assert builder.state.supply == supply + params.pending_blocks * params.idle_subsidy - params.upload_deposit


def test_a_bounty_paid_to_oneself_loses_a_tenth(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", make_spec(majority_margin_bp=0))
    builder = Builder(chain, key=ALICE)
    activated(builder, uploaded_dataset(), BOUNTY)
    identity = DatasetId(uploaded_dataset().manifest.dataset_id)
    params, models = chain.spec.params_at(1), 0
    while models < 6:
        before = chain.head
        place = place_on(builder, identity)
        make = builder.evolve if place.kind == BlockKind.EVOLVE else builder.found
        block = make(place, timestamp=before.timestamp + 2 * params.skip_s, proofs=builder.proofs(0))
        chain.import_block(encode_block(block))
        models += 1
        paid = before.datasets[identity].bounty - chain.head.datasets[identity].bounty
        minted = chain.head.supply - before.supply
        assert minted <= params.idle_subsidy
        burned = params.idle_subsidy - minted
        if paid:
            assert 0.1 * paid <= burned + 1
            assert burned > 0
    assert chain.head.datasets[identity].bounty < BOUNTY, "some of it was paid"


def always_zero(seed: int) -> Model:
    """Return a model that answers class 0 to everything."""
    model = random_model(family_shape(6), seed)
    biases = np.array([1 << 10] + [0] * (CLASSES - 1), np.int32)
    return build_model(model.architecture, list(unpack_weights(model)), list(model.thresholds), biases)
