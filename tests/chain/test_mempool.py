from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from builders import (
    ALICE,
    BOB,
    CAROL,
    CHAIN_ID,
    COINS,
    Builder,
    make_spec,
    open_chain,
    private_key,
    tiny_dataset,
    transfer,
)

from bnnchain.chain import mempool as mempool_module
from bnnchain.chain.mempool import Mempool
from bnnchain.consensus.codec import encode_transaction
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.transactions import sign_transaction, transaction_id
from bnnchain.consensus.types import Amount, BlockKind, Bounty, DatasetId, Height, Upload

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.chain.chain import Chain
    from bnnchain.consensus.types import Transaction

SIZE = len(encode_transaction(transfer()))
EVERYTHING = (1_000, 1 << 20)


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    return open_chain(tmp_path / "chain.db")


@pytest.fixture
def mempool(chain: Chain) -> Mempool:
    return Mempool(chain)


def refusal(mempool: Mempool, transaction: Transaction) -> str:
    with pytest.raises(Invalid) as caught:
        mempool.add(transaction)
    return caught.value.code


def test_a_transaction_waits_once(mempool: Mempool) -> None:
    order = transfer()
    assert mempool.add(order)
    assert not mempool.add(order)
    assert len(mempool) == 1
    assert mempool.get(transaction_id(order)) == order
    assert mempool.waiting() == [order]


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (replace(transfer(), version=2), "bad-tx-version"),
        (transfer(chain_id=8), "bad-chain-id"),
        (transfer(amount=0), "bad-tx-amount"),
        (replace(transfer(), signature=bytes(64)), "bad-tx-signature"),
        (transfer(nonce=1), "bad-tx-nonce"),
        (transfer(amount=COINS + 1), "bad-tx-balance"),
        (transfer(CAROL), "bad-tx-balance"),
        (transfer(expiry_height=0), "bad-tx-expired"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_block_could_include_is_refused(mempool: Mempool, order: Transaction, code: str) -> None:
    assert refusal(mempool, order) == code
    assert len(mempool) == 0


def test_waiting_ones_count_as_if_they_were_in_blocks(mempool: Mempool) -> None:
    mempool.add(transfer(amount=COINS - 100, fee=0))
    assert refusal(mempool, transfer(recipient=BOB, fee=0)) == "fee-too-low", "a double spend of the first"
    assert refusal(mempool, transfer(nonce=2)) == "bad-tx-nonce"
    assert refusal(mempool, transfer(nonce=1, amount=101, fee=0)) == "bad-tx-balance"
    assert mempool.add(transfer(nonce=1, amount=99, fee=1))


def test_limits_hold(mempool: Mempool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_module, "MAX_PER_SENDER", 2)
    monkeypatch.setattr(mempool_module, "MAX_TRANSACTIONS", 3)
    mempool.add(transfer())
    mempool.add(transfer(nonce=1))
    assert refusal(mempool, transfer(nonce=2)) == "mempool-full"
    mempool.add(transfer(BOB))
    assert refusal(mempool, transfer(BOB, nonce=1)) == "mempool-full", "pays no more than what waits"
    assert len(mempool) == 3


def test_the_best_fee_goes_first_but_a_senders_in_order(mempool: Mempool) -> None:
    for order in (transfer(fee=1), transfer(nonce=1, fee=90), transfer(BOB, fee=5), transfer(BOB, nonce=1, fee=2)):
        mempool.add(order)
    chosen = mempool.select(*EVERYTHING)
    assert [order.fee for order in chosen] == [5, 2, 1, 90]
    assert [order.fee for order in mempool.select(2, 1 << 20)] == [5, 2]
    assert [order.fee for order in mempool.select(9, 3 * SIZE)] == [5, 2, 1]
    assert mempool.select(9, SIZE - 1) == []
    assert len(mempool) == 4


def test_what_is_selected_makes_a_valid_block(chain: Chain, mempool: Mempool) -> None:
    for nonce in range(5):
        mempool.add(transfer(nonce=nonce, fee=nonce))
        mempool.add(transfer(BOB, ALICE, nonce=nonce, fee=9 - nonce))
    Builder(chain).extend(kind=BlockKind.IDLE, transactions=mempool.select(*EVERYTHING))
    mempool.refresh()
    assert len(mempool) == 0


def test_a_new_head_drops_what_it_included_and_what_it_made_impossible(chain: Chain, mempool: Mempool) -> None:
    kept = [transfer(nonce=1), transfer(nonce=2)]
    for order in (transfer(), *kept, transfer(BOB, amount=COINS, fee=0)):
        mempool.add(order)
    Builder(chain).extend(kind=BlockKind.IDLE, transactions=[transfer(), transfer(BOB, amount=5)])
    mempool.refresh()
    assert mempool.waiting() == kept
    assert mempool.get(transaction_id(transfer())) is None
    assert mempool.add(transfer(nonce=3))


def test_what_expired_is_dropped_with_all_that_builds_on_it(chain: Chain, mempool: Mempool) -> None:
    for order in (transfer(expiry_height=1), transfer(nonce=1), transfer(BOB)):
        mempool.add(order)
    Builder(chain).extend(kind=BlockKind.IDLE)
    mempool.refresh()
    assert mempool.waiting() == [transfer(BOB)]


def bounty(
    key: object = ALICE, *, amount: int = 10, dataset_id: bytes | None = None, nonce: int = 0, fee: int = 1
) -> Transaction:
    wanted = DatasetId(tiny_dataset().manifest.dataset_id if dataset_id is None else dataset_id)
    body = Bounty(wanted, Amount(amount))
    return sign_transaction(key, body, chain_id=CHAIN_ID, nonce=nonce, fee=Amount(fee), expiry_height=Height(10**6))  # type: ignore[arg-type]


def upload(key: object = ALICE, *, pool: int = 300, nonce: int = 0, fee: int = 1) -> Transaction:
    body = Upload(tiny_dataset(pool).manifest, 5_000, Amount(0))
    return sign_transaction(key, body, chain_id=CHAIN_ID, nonce=nonce, fee=Amount(fee), expiry_height=Height(10**6))  # type: ignore[arg-type]


def fees(mempool: Mempool) -> list[int]:
    return [order.fee for order in mempool.select(*EVERYTHING)]


def test_fee_per_byte_decides_not_the_fee(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", make_spec(upload_deposit=0, upload_fee_per_kib=0))
    mempool = Mempool(chain)
    large = upload(fee=100)
    size = len(encode_transaction(large))
    assert size > SIZE
    mempool.add(large)
    mempool.add(transfer(BOB, fee=90))
    assert 100 / size < 90 / SIZE
    assert fees(mempool) == [90, 100]


def test_a_larger_fee_replaces_and_what_follows_stays(mempool: Mempool) -> None:
    first, second, third = transfer(fee=80), transfer(nonce=1, fee=5), transfer(nonce=2, fee=5)
    for order in (first, second, third):
        mempool.add(order)
    assert refusal(mempool, transfer(fee=89, amount=7)) == "fee-too-low"
    better = transfer(fee=90, amount=7)
    assert mempool.add(better)
    assert mempool.waiting() == [better, second, third]
    assert mempool.get(transaction_id(first)) is None
    assert mempool.size_bytes == 3 * SIZE
    assert refusal(mempool, transfer(nonce=1, fee=5, amount=8)) == "fee-too-low", "an eighth of 5 is 1 unit at least"
    assert mempool.add(transfer(nonce=1, fee=6, amount=8))
    assert mempool.next_nonce(first.sender) == 3
    assert mempool.next_nonce(public_key(CAROL)) == 0


def test_a_replacement_that_leaves_nothing_for_the_rest_drops_the_rest(mempool: Mempool) -> None:
    for order in (transfer(), transfer(nonce=1, amount=COINS // 2), transfer(nonce=2)):
        mempool.add(order)
    assert refusal(mempool, transfer(amount=COINS, fee=10)) == "bad-tx-balance", "it could not be paid at all"
    assert len(mempool) == 3
    dear = transfer(amount=COINS // 2 + 10, fee=10)
    assert mempool.add(dear)
    assert mempool.waiting() == [dear]
    assert mempool.size_bytes == SIZE


def test_a_replacement_of_what_a_block_has_included_is_a_replay(chain: Chain, mempool: Mempool) -> None:
    Builder(chain).extend(kind=BlockKind.IDLE, transactions=[transfer()])
    mempool.refresh()
    assert refusal(mempool, transfer(fee=500)) == "bad-tx-nonce"


def test_the_cheapest_tail_goes_first_when_bytes_run_out(mempool: Mempool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_module, "MAX_POOL_BYTES", 4 * SIZE)
    for order in (transfer(fee=50), transfer(nonce=1, fee=3), transfer(BOB, fee=4), transfer(BOB, nonce=1, fee=60)):
        mempool.add(order)
    # BOB's second pays well, but no block reaches it before his first: the queue is worth 4 a transfer, ALICE's tail 3.
    cheap = transfer(nonce=2, fee=2)
    assert refusal(mempool, cheap) == "mempool-full"
    assert len(mempool) == 4
    rich = transfer(private_key(9), fee=0)
    assert refusal(mempool, rich) == "bad-tx-balance"
    assert mempool.add(transfer(BOB, nonce=2, fee=90))
    assert sorted(order.fee for order in mempool.waiting()) == [4, 50, 60, 90]
    assert mempool.size_bytes == 4 * SIZE


def test_a_newcomer_that_has_to_go_itself_evicts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large, cheap transaction must not be a way to empty the pool of small ones for nothing."""
    chain = open_chain(tmp_path / "chain.db", make_spec(upload_deposit=0, upload_fee_per_kib=0))
    mempool = Mempool(chain)
    large = upload(fee=2)
    monkeypatch.setattr(mempool_module, "MAX_POOL_BYTES", 2 * SIZE)
    orders = [transfer(BOB, fee=40), transfer(BOB, nonce=1, fee=0)]
    for order in orders:
        mempool.add(order)
    assert refusal(mempool, large) == "mempool-full"
    assert mempool.waiting() == orders
    assert mempool.size_bytes == 2 * SIZE
    assert fees(mempool) == [40, 0]
    assert mempool.add(transfer(fee=1)), "what fits in the cheapest one's place gets it"
    assert fees(mempool) == [40, 1]


def test_a_sender_holds_no_more_bytes_than_allowed(mempool: Mempool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_module, "MAX_SENDER_BYTES", 2 * SIZE)
    mempool.add(transfer())
    mempool.add(transfer(nonce=1))
    assert refusal(mempool, transfer(nonce=2, fee=10**4)) == "mempool-full"
    assert mempool.add(transfer(nonce=1, fee=10)), "replacing takes no more room"
    assert mempool.add(transfer(BOB))


def test_what_the_state_forbids_is_refused_whatever_its_kind(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db", make_spec(upload_deposit=0, upload_fee_per_kib=0))
    mempool = Mempool(chain)
    assert refusal(mempool, bounty(dataset_id=bytes(32))) == "unknown-dataset"
    assert refusal(mempool, upload(pool=50)) == "bad-upload"
    assert refusal(mempool, upload(pool=700)) == "dataset-known"
    assert mempool.add(bounty())
    assert mempool.add(upload(nonce=1))
    assert mempool.add(upload(BOB)), "one of two proposals of the same data set will be first"
    chosen = mempool.select(*EVERYTHING)
    Builder(chain).extend(kind=BlockKind.IDLE, transactions=chosen)
    assert len(chosen) == 2
    mempool.refresh()
    assert len(mempool) == 1, "what is impossible now is found when a block is made"
    assert mempool.select(*EVERYTHING) == []
    assert len(mempool) == 0


def test_selecting_after_a_head_that_nobody_told_of_gives_a_valid_block(chain: Chain, mempool: Mempool) -> None:
    for order in (transfer(), transfer(nonce=1), transfer(BOB)):
        mempool.add(order)
    Builder(chain).extend(kind=BlockKind.IDLE, transactions=[transfer()])
    assert mempool.select(*EVERYTHING) == [transfer(BOB)]
    assert len(mempool) == 3, "nothing is dropped before the pool is told"
    mempool.refresh()
    Builder(chain).extend(kind=BlockKind.IDLE, transactions=mempool.select(*EVERYTHING))


def totals(mempool: Mempool) -> tuple[int, int]:
    waiting = mempool.waiting()
    return len(waiting), sum(len(encode_transaction(order)) for order in waiting)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_asked_the_pool_is_consistent(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random adds, replacements, blocks and reorganised transactions against small limits."""
    monkeypatch.setattr(mempool_module, "MAX_TRANSACTIONS", 12)
    monkeypatch.setattr(mempool_module, "MAX_POOL_BYTES", 11 * SIZE)
    monkeypatch.setattr(mempool_module, "MAX_PER_SENDER", 6)
    rng = random.Random(seed)
    chain = open_chain(tmp_path / "chain.db")
    mempool, builder = Mempool(chain), Builder(chain)
    codes = set()
    for step in range(150):
        key = rng.choice([ALICE, BOB])
        nonce = max(0, mempool.next_nonce(public_key(key)) - rng.choice([0, 0, 0, 1, 2]))
        order = transfer(key, nonce=nonce, fee=rng.randrange(60), amount=rng.randrange(1, COINS // 20))
        try:
            mempool.add(order)
        except Invalid as error:
            codes.add(error.code)
        if step % 25 == 24:
            builder.extend(kind=BlockKind.IDLE, transactions=mempool.select(rng.randrange(5), 1 << 20))
            mempool.refresh()
        assert totals(mempool) == (len(mempool), mempool.size_bytes), f"seed {seed} step {step}"
        assert len(mempool) <= 12
        for sender in {each.sender for each in mempool.waiting()}:
            nonces = [each.nonce for each in mempool.waiting() if each.sender == sender]
            first = chain.head.ledger.account(sender).nonce
            assert nonces == list(range(first, first + len(nonces))), f"seed {seed} step {step}"
        for each in mempool.waiting():
            assert mempool.get(transaction_id(each)) is each
        selected = mempool.select(*EVERYTHING)
        assert len(selected) == len(mempool), "all of it could be in one block"
    assert {"mempool-full", "fee-too-low"} <= codes, f"seed {seed}"


@pytest.mark.slow
def test_ten_thousand_waiting_are_selected_from_quickly(tmp_path: Path) -> None:
    keys = [private_key(100 + number) for number in range(100)]
    spec = replace(make_spec(), allocations=tuple(sorted((public_key(key), Amount(COINS)) for key in keys)))
    mempool = Mempool(open_chain(tmp_path / "chain.db", spec))
    rng = random.Random(1)
    for nonce in range(100):
        for key in keys:
            mempool.add(transfer(key, nonce=nonce, fee=rng.randrange(1_000)))
    assert len(mempool) == 10_000
    started = time.process_time()
    chosen = mempool.select(146, 1 << 18)
    few_s = time.process_time() - started
    assert len(chosen) == 146
    started = time.process_time()
    mempool.refresh()
    refresh_s = time.process_time() - started
    assert len(mempool) == 10_000
    assert few_s < 0.25, "a block's worth is found without looking at everything"
    assert refresh_s < 2


def test_a_replacement_that_finds_no_room_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is larger than what it replaces, and everything else pays more per byte."""
    chain = open_chain(tmp_path / "chain.db", make_spec(upload_deposit=0, upload_fee_per_kib=0))
    mempool = Mempool(chain)
    old, after, rich = transfer(fee=8), transfer(nonce=1, fee=8), transfer(BOB, fee=900)
    for order in (old, after, rich):
        mempool.add(order)
    monkeypatch.setattr(mempool_module, "MAX_POOL_BYTES", 2 * SIZE)
    assert refusal(mempool, upload(fee=9)) == "mempool-full"
    assert mempool.waiting() == [rich, old, after]
    assert mempool.size_bytes == 3 * SIZE
    assert fees(mempool) == [900, 8, 8]
