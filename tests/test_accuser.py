"""A node that has seen a miner sign two blocks on one parent reports it, and is paid for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builders import ALICE, CAROL, COINS, MINER, Builder, make_spec, open_chain, transfer

from bnnchain.accuser import REPORT_FEE, Accuser
from bnnchain.chain.mempool import Mempool
from bnnchain.consensus.signatures import public_key
from bnnchain.consensus.types import BlockKind

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.chain.chain import Chain

SUBSIDY = 1_250


def two_faced(path: Path, key: object = MINER) -> Chain:
    chain = open_chain(path, make_spec(coinbase_maturity_blocks=20))
    fork = chain.head
    for nonce in range(2):
        for raw in Builder(fork, key=key).extend(1, kind=BlockKind.IDLE, nonce=nonce):  # type: ignore[arg-type]
            chain.import_block(raw)
    return chain


def test_a_report_is_made_once_and_pays(tmp_path: Path) -> None:
    chain = two_faced(tmp_path / "chain.db")
    mempool = Mempool(chain)
    accuser = Accuser(chain, mempool, ALICE)
    mempool.add(transfer())
    [report] = accuser.accuse()
    assert report.nonce == 1, "after what waits already"
    assert mempool.add(report)
    assert accuser.accuse() == []
    before, supply = chain.head.ledger.account(public_key(ALICE)).balance, chain.head.supply
    Builder(chain, key=CAROL).extend(kind=BlockKind.IDLE, transactions=mempool.select(9, 1 << 18))
    mempool.refresh()
    paid = chain.head.ledger.account(public_key(ALICE)).balance - before
    assert paid == SUBSIDY // 2 - REPORT_FEE - 101
    assert chain.head.supply == supply + SUBSIDY - SUBSIDY // 2
    assert all(coinbase.owner != public_key(MINER) for coinbase in chain.head.coinbases)
    assert accuser.accuse() == []


def test_a_report_that_was_lost_is_made_again(tmp_path: Path) -> None:
    chain = two_faced(tmp_path / "chain.db")
    mempool = Mempool(chain)
    accuser = Accuser(chain, mempool, ALICE)
    assert accuser.accuse() == accuser.accuse() != []


def test_who_cannot_pay_the_fee_or_is_the_culprit_says_nothing(tmp_path: Path) -> None:
    chain = two_faced(tmp_path / "chain.db", ALICE)
    assert chain.equivocations()
    assert Accuser(chain, Mempool(chain), CAROL).accuse() == []
    assert chain.head.ledger.account(public_key(ALICE)).balance == COINS
    assert Accuser(chain, Mempool(chain), ALICE).accuse() == []
