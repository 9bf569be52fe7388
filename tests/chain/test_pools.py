"""Several data sets on one chain: which pools a node wants, gets, keeps and forgets; and verify with all of them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from builders import (
    ALICE,
    CHAIN_ID,
    GENESIS_TIME,
    MINER,
    Builder,
    close_opened,
    make_spec,
    open_chain,
)
from learnable import OWN, UPLOADED_POOL_SIZE, tiny_dataset, uploaded_dataset

from bnnchain.chain.chain import Chain
from bnnchain.chain.store import Store
from bnnchain.chain.verify import verify_chain
from bnnchain.consensus.codec import encode_block
from bnnchain.consensus.election import open_places
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.state import DatasetStatus
from bnnchain.consensus.transactions import sign_transaction
from bnnchain.consensus.types import Amount, BlockKind, DatasetId, Height, Upload
from bnnchain.datasets.payload import encode_payload
from bnnchain.mining.availability import availability_proofs
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.consensus.spec import ChainSpec
    from bnnchain.consensus.types import Transaction
    from bnnchain.datasets.dataset import Dataset

NOW = GENESIS_TIME + 10**6


def small_spec(**params: int) -> ChainSpec:
    """Return a chain on which a data set is active after 2 proofs in 3 blocks, and one that has none is closed soon."""
    quick = {
        "upload_deposit": 1_000,
        "upload_fee_per_kib": 1,
        "availability_window": 3,
        "availability_least": 2,
        "pending_blocks": 6,
        "majority_margin_bp": 0,
    }
    return make_spec(**{**quick, **params})


def data(size: int) -> Dataset:
    """Return a data set with a pool of that size; builders can learn on those of 300 and 700."""
    return uploaded_dataset() if size == UPLOADED_POOL_SIZE else tiny_dataset(size)


def dataset_id(size: int) -> DatasetId:
    return DatasetId(data(size).manifest.dataset_id)


def payload(size: int) -> bytes:
    return encode_payload(data(size).pool)


def upload(*sizes: int, first_nonce: int = 0) -> list[Transaction]:
    bodies = [Upload(data(size).manifest, 2_800, Amount(0)) for size in sizes]
    return [
        sign_transaction(ALICE, body, chain_id=CHAIN_ID, nonce=nonce, fee=Amount(1), expiry_height=Height(10**6))
        for nonce, body in enumerate(bodies, first_nonce)
    ]


def extend(chain: Chain, blocks: int = 1, *sizes: int, transactions: object = ()) -> list[bytes]:
    """Add IDLE blocks that prove the pools of those sizes to be there."""
    raws = []
    for _ in range(blocks):
        proofs = availability_proofs(
            chain.head, public_key(MINER), {dataset_id(size): payload(size) for size in sizes}.get
        )
        raws += Builder(chain).extend(kind=BlockKind.IDLE, proofs=proofs, transactions=transactions)
        transactions = ()
    return raws


def test_a_proposed_data_set_is_missing_until_its_pool_comes(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", small_spec())
    extend(chain, transactions=upload(290))
    assert chain.missing_datasets() == [dataset_id(290)]
    with pytest.raises(Invalid, match="bad-samples"):
        chain.add_dataset(dataset_id(290), payload(310))
    with pytest.raises(Unavailable):
        chain.validator.pool(dataset_id(290))
    chain.add_dataset(dataset_id(290), payload(290))
    assert chain.missing_datasets() == []
    assert len(chain.validator.pool(dataset_id(290))) == 290
    close_opened()
    again = open_chain(tmp_path / "chain.db", small_spec())
    assert len(again.validator.pool(dataset_id(290))) == 290, "every stored pool is loaded at the start"


def test_what_the_operator_puts_into_the_store_is_used_at_once(tmp_path: Path) -> None:
    """`bnnchain dataset provide` writes beside a running node."""
    path = tmp_path / "chain.db"
    chain = open_chain(path, small_spec())
    with closing(Store(path)) as beside:
        beside.put_dataset(dataset_id(290), payload(290))
    extend(chain, transactions=upload(290, 310))
    assert chain.missing_datasets() == [dataset_id(310)]
    assert len(chain.validator.pool(dataset_id(290))) == 290
    with closing(Store(path)) as beside:
        beside.put_dataset(dataset_id(310), payload(310))
    assert chain.missing_datasets() == []
    assert len(chain.validator.pool(dataset_id(310))) == 310


def test_a_damaged_payload_in_the_store_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path, small_spec())
    extend(chain, transactions=upload(290))
    chain.store.put_dataset(dataset_id(290), payload(310))
    with pytest.raises(Fault, match="damaged"):
        chain.missing_datasets()
    close_opened()
    with pytest.raises(Fault, match="damaged"):
        open_chain(path, small_spec())


def test_active_data_sets_come_first_and_the_limit_cuts_the_rest(tmp_path: Path) -> None:
    path, sizes = tmp_path / "chain.db", (290, 310, 320)
    chain = open_chain(path, small_spec(suspend_blocks=100))
    extend(chain, transactions=upload(*sizes))
    extend(chain, 2, 320)
    assert chain.head.datasets[dataset_id(320)].status == DatasetStatus.ACTIVE
    assert chain.missing_datasets() == [dataset_id(320), dataset_id(290), dataset_id(310)]
    own, first = len(payload(700)), len(payload(320)) + len(payload(290))
    close_opened()
    for limit, wanted in ((own + first, [320, 290]), (own + first - 1, [320]), (1, [320])):
        with closing(Store(path)) as store:
            limited = Chain(store, ReferenceEvaluator, lambda: NOW, dataset_limit_bytes=limit)
            assert limited.missing_datasets() == [dataset_id(size) for size in wanted], limit


def test_over_the_limit_the_oldest_closed_pools_are_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path, small_spec())
    extend(chain, transactions=upload(290, 310))
    extend(chain, transactions=upload(320, first_nonce=2))
    for size in (290, 310, 320):
        chain.add_dataset(dataset_id(size), payload(size))
    extend(chain, 4)
    close_opened()
    limit = len(payload(700)) + len(payload(310)) + len(payload(320))
    with closing(Store(path)) as store:
        limited = Chain(store, ReferenceEvaluator, lambda: NOW, dataset_limit_bytes=limit)
        assert set(store.dataset_sizes()) == {OWN, *map(dataset_id, (290, 310, 320))}, "nothing is closed yet"
        extend(limited, 1)
        closed = [limited.head.datasets[dataset_id(size)].is_closed for size in (290, 310, 320)]
        assert closed == [True, True, False]
        assert set(store.dataset_sizes()) == {OWN, dataset_id(310), dataset_id(320)}
        assert limited.missing_datasets() == []


def founded_elsewhere(chain: Chain) -> bytes:
    """Return a block that founds a family on the data set of 300."""
    places = open_places(chain.head, 10**4, chain.spec.params_at(Height(chain.head.height + 1)))
    place = next(place for place in places if place.dataset_id == dataset_id(300))
    return encode_block(Builder(chain).found(place, timestamp=chain.head.timestamp + 10**4))


def test_verify_counts_on_every_data_set_again(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path, small_spec())
    chain.store.put_dataset(dataset_id(300), payload(300))
    extend(chain, transactions=upload(300))
    extend(chain, 2, 300)
    raw = founded_elsewhere(chain)
    assert chain.import_block(raw).is_head
    extend(chain)
    heights: list[int] = []
    state = verify_chain(chain.store, ReferenceEvaluator, NOW, lambda after: heights.append(after.height))
    assert state.head == chain.head.head
    assert heights == list(range(1, 6))
    assert state.families[0].dataset_id == dataset_id(300)
    chain.store.drop_dataset(dataset_id(300))
    with pytest.raises(Unavailable, match=f"data set {dataset_id(300).hex()[:16]}"):
        verify_chain(chain.store, ReferenceEvaluator, NOW, lambda _: None)


def test_without_its_pool_a_block_waits_and_others_do_not(tmp_path: Path) -> None:
    full = open_chain(tmp_path / "full.db", small_spec())
    full.store.put_dataset(dataset_id(300), payload(300))
    raws = extend(full, transactions=upload(300)) + extend(full, 2, 300)
    raw = founded_elsewhere(full)
    poor = open_chain(tmp_path / "poor.db", small_spec())
    for each in raws:
        assert poor.import_block(each).is_head, "proofs are checked against the manifest alone"
    with pytest.raises(Unavailable, match="data set"):
        poor.import_block(raw)
    poor.add_dataset(dataset_id(300), payload(300))
    assert poor.import_block(raw).is_head


def test_an_unknown_data_set_is_unavailable(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", small_spec())
    with pytest.raises(Unavailable, match="unknown data set"):
        chain.add_dataset(dataset_id(290), payload(290))
