from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from builders import ALICE, BOB, CAROL, COINS, Builder, open_chain, transfer

from bnnchain.chain import mempool as mempool_module
from bnnchain.chain.mempool import Mempool
from bnnchain.consensus.codec import encode_transaction
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.transactions import transaction_id
from bnnchain.consensus.types import BlockKind

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
    assert refusal(mempool, transfer(recipient=BOB)) == "bad-tx-nonce", "a double spend of the first"
    assert refusal(mempool, transfer(nonce=1, amount=101, fee=0)) == "bad-tx-balance"
    assert mempool.add(transfer(nonce=1, amount=99, fee=1))


def test_limits_hold(mempool: Mempool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool_module, "MAX_PER_SENDER", 2)
    monkeypatch.setattr(mempool_module, "MAX_TRANSACTIONS", 3)
    mempool.add(transfer())
    mempool.add(transfer(nonce=1))
    assert refusal(mempool, transfer(nonce=2)) == "mempool-full"
    mempool.add(transfer(BOB))
    assert refusal(mempool, transfer(BOB, nonce=1)) == "mempool-full"
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
