"""What a miner has earned goes to another key: once it matures, one transfer at a time, never all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders import BOB, MINER, Builder, make_spec, open_chain, transfer

from bnnchain.chain.mempool import Mempool
from bnnchain.consensus.errors import Invalid
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import BlockKind, Transfer
from bnnchain.payout import PAYOUT_FEE, PAYOUT_LEAST, PAYOUT_RESERVE, Payout

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.chain.chain import Chain

MATURITY = 3
LEAST = PAYOUT_LEAST + PAYOUT_RESERVE + PAYOUT_FEE
"""The balance at which the first payout is worth its fee."""


def open_paying(path: Path, subsidy: int) -> Chain:
    return open_chain(path / "chain.db", make_spec(idle_subsidy=subsidy, coinbase_maturity_blocks=MATURITY))


def balance(chain: Chain, key: object = MINER) -> int:
    return chain.head.ledger.account(public_key(key)).balance  # type: ignore[arg-type]


def test_a_matured_reward_is_paid_out_once(tmp_path: Path) -> None:
    chain = open_paying(tmp_path, LEAST)
    mempool = Mempool(chain)
    payout = Payout(chain, mempool, MINER, public_key(BOB))
    miner = Builder(chain, key=MINER)
    before = balance(chain)
    for _ in range(MATURITY - 1):
        miner.extend(kind=BlockKind.IDLE)
        mempool.refresh()
        assert balance(chain) == before
        assert payout.pay() == [], "immature"
    miner.extend(kind=BlockKind.IDLE)
    mempool.refresh()
    [order] = payout.pay()
    assert order.body == Transfer(public_key(BOB), balance(chain) - PAYOUT_RESERVE - PAYOUT_FEE)
    assert mempool.add(order)
    assert payout.pay() == [], "one waits"
    had = balance(chain, BOB)
    miner.extend(kind=BlockKind.IDLE, transactions=mempool.select(9, 1 << 18))
    mempool.refresh()
    assert balance(chain, BOB) == had + order.body.amount
    assert balance(chain) == PAYOUT_RESERVE + LEAST, "the reserve, and the reward that matured meanwhile"
    assert len(payout.pay()) == 1


@pytest.mark.parametrize(("subsidy", "count"), [(LEAST - 1, 0), (LEAST, 1)])
def test_less_than_is_worth_the_fee_stays(tmp_path: Path, subsidy: int, count: int) -> None:
    chain = open_paying(tmp_path, subsidy)
    Builder(chain, key=MINER).extend(MATURITY, kind=BlockKind.IDLE)
    assert balance(chain) == subsidy
    assert len(Payout(chain, Mempool(chain), MINER, public_key(BOB)).pay()) == count


def test_a_payout_waits_for_the_miners_other_transactions(tmp_path: Path) -> None:
    chain = open_paying(tmp_path, LEAST)
    Builder(chain, key=MINER).extend(MATURITY, kind=BlockKind.IDLE)
    mempool = Mempool(chain)
    payout = Payout(chain, mempool, MINER, public_key(BOB))
    assert len(payout.pay()) == 1
    mempool.add(transfer(MINER))
    assert payout.pay() == []


def test_a_payout_to_oneself_is_refused(tmp_path: Path) -> None:
    chain = open_paying(tmp_path, LEAST)
    with pytest.raises(Invalid) as refusal:
        Payout(chain, Mempool(chain), MINER, public_key(MINER))
    assert refusal.value.code == "bad-payout"
