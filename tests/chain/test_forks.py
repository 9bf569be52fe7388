"""Ties, deep reorganisations, operators' checkpoints, stale headers and equivocation, on one node's chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders import ALICE, BOB, CAROL, GENESIS_TIME, MINER, Builder, close_opened, make_spec, open_chain, transfer

from bnnchain.chain import checkpoints as checkpoints_module
from bnnchain.chain import equivocations as equivocations_module
from bnnchain.chain.chain import DEEP_REORG_BLOCKS, Chain
from bnnchain.chain.store import ALARMS_KEPT, DeepReorg, Store
from bnnchain.consensus.codec import decode_block, encode_block
from bnnchain.consensus.errors import Fault, Invalid
from bnnchain.consensus.header import block_id
from bnnchain.consensus.types import BlockId, BlockKind
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.consensus.state import ChainState

IDLE = BlockKind.IDLE


def branch(state: ChainState, blocks: int, key: object = MINER, **changes: object) -> list[bytes]:
    return Builder(state, key=key).extend(blocks, kind=IDLE, **changes)  # type: ignore[arg-type]


def identity(raw: bytes) -> BlockId:
    return block_id(decode_block(raw).header)


# Ties.


def test_a_tie_goes_to_the_preferred_tip_once(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    Builder(chain).extend(2, kind=IDLE)
    fork = chain.head
    ours, theirs = branch(fork, 2, transactions=[]), branch(fork, 2, ALICE)
    for raw in (*ours, *theirs):
        chain.import_block(raw)
    assert chain.head.head == identity(ours[1])
    preferred = chain.prefer(identity(theirs[1]))
    assert preferred is not None
    assert (preferred.is_head, preferred.is_new, preferred.reorg_depth) == (True, False, 2)
    assert [raw for _, raw in chain.store.active_blocks(3, 9)] == theirs
    assert chain.prefer(identity(ours[1])) is None, "a tie is decided once: two groups must not swap for ever"
    assert chain.head.head == identity(theirs[1])
    for raw in branch(chain.head, 1):
        assert chain.import_block(raw).reorg_depth == 0
    assert open_chain(tmp_path / "chain.db").head.head == chain.head.head


def test_what_a_preference_abandons_waits_again(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    fork = chain.head
    ours, theirs = branch(fork, 1, transactions=[transfer()]), branch(fork, 1, BOB)
    for raw in (*ours, *theirs):
        chain.import_block(raw)
    preferred = chain.prefer(identity(theirs[0]))
    assert preferred is not None
    assert preferred.abandoned == (transfer(),)


def test_weight_comes_before_preference(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    fork = chain.head
    light = branch(fork, 1, ALICE)
    for raw in (*branch(fork, 2), *light):
        chain.import_block(raw)
    head = chain.head
    assert chain.prefer(identity(light[0])) is None
    assert chain.prefer(head.head) is None
    assert chain.prefer(BlockId(b"\1" * 32)) is None, "a block that is not here is a peer's word and no more"
    assert chain.head is head


# Deep reorganisations.


def test_a_deep_reorganisation_is_an_alarm_that_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    chain = open_chain(tmp_path / "chain.db")
    fork = chain.head
    for raw in branch(fork, DEEP_REORG_BLOCKS + 1):
        chain.import_block(raw)
    rival = branch(fork, DEEP_REORG_BLOCKS + 2, ALICE)
    for raw in rival[:-1]:
        chain.import_block(raw)
    assert chain.store.alarms() == []
    assert "DEEP REORGANISATION" not in caplog.text
    imported = chain.import_block(rival[-1])
    assert imported.reorg_depth == DEEP_REORG_BLOCKS + 1
    assert "DEEP REORGANISATION: 101 blocks leave the chain" in caplog.text
    alarm = DeepReorg(GENESIS_TIME + 10**6, DEEP_REORG_BLOCKS + 2, identity(rival[-1]), DEEP_REORG_BLOCKS + 1)
    assert chain.store.alarms() == [alarm]
    assert open_chain(tmp_path / "chain.db").store.alarms() == [alarm]


def test_exactly_a_hundred_blocks_are_none(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    fork = chain.head
    for raw in (*branch(fork, DEEP_REORG_BLOCKS), *branch(fork, DEEP_REORG_BLOCKS + 1, ALICE)):
        chain.import_block(raw)
    assert chain.head.height == DEEP_REORG_BLOCKS + 1
    assert chain.store.alarms() == []


def test_only_the_last_alarms_are_kept(tmp_path: Path) -> None:
    store = open_chain(tmp_path / "chain.db").store
    for number in range(ALARMS_KEPT + 5):
        store.activate(store.spec.genesis_header.height, (), DeepReorg(number, 1, BlockId(bytes(32)), 101))
    assert [alarm.time_s for alarm in store.alarms()] == list(range(5, ALARMS_KEPT + 5))


# Checkpoints.


def pinned(path: Path, ids: dict[int, BlockId]) -> Chain:
    """Return a chain on an existing store with checkpoints."""
    return Chain(Store(path), ReferenceEvaluator, lambda: GENESIS_TIME + 10**6, checkpoints=ids)


def test_a_chain_without_a_pinned_block_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    fork = open_chain(path).head
    close_opened()
    good, bad = branch(fork, 4), branch(fork, 6, ALICE)
    chain = pinned(path, {3: identity(good[2])})
    for raw in bad[:2]:
        assert chain.import_block(raw).is_head, "nothing contradicts it yet"
    with pytest.raises(Invalid, match="other-checkpoint"):
        chain.import_block(bad[2])
    assert chain.head.height == 2
    for raw in good:
        chain.import_block(raw)
    assert chain.head.head == identity(good[3])
    with pytest.raises(Invalid, match="other-checkpoint"):
        chain.import_block(bad[2])
    with pytest.raises(Invalid, match="other-checkpoint"):
        chain.import_block(branch(fork, 1, BOB)[0])  # below the checkpoint that has been reached
    assert chain.import_block(branch(chain.state_at(identity(good[2])), 1, BOB)[0]).is_new, "above it all is free"
    chain.store.close()


def test_a_branch_stored_before_its_checkpoint_does_not_win_later(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path)
    fork = chain.head
    good, bad = branch(fork, 3), branch(fork, 5, ALICE)
    for raw in (*good, *bad[:3]):
        chain.import_block(raw)
    assert chain.head.head == identity(good[2])
    close_opened()
    chain = pinned(path, {2: identity(good[1])})
    with pytest.raises(Invalid, match="other-checkpoint"):
        chain.import_block(bad[3])
    assert chain.prefer(identity(bad[2])) is None
    assert chain.head.head == identity(good[2])
    chain.store.close()


def test_a_store_that_contradicts_a_checkpoint_is_refused_at_start(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path)
    Builder(chain).extend(3, kind=IDLE)
    second = chain.store.active_id(2)
    assert second is not None
    close_opened()
    with pytest.raises(Fault, match="contradicts the checkpoint at height 2"):
        pinned(path, {2: BlockId(b"\1" * 32)})
    with pytest.raises(Fault, match="at height 0"):
        pinned(path, {0: BlockId(b"\1" * 32)})
    close_opened()
    pinned(path, {2: second, 9: BlockId(b"\1" * 32)}).store.close()


def test_checkpoints_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints_module, "MAX_CHECKPOINTS", 2)
    path = tmp_path / "chain.db"
    open_chain(path)
    close_opened()
    with pytest.raises(Fault, match="3 checkpoints"):
        pinned(path, dict.fromkeys(range(1, 4), BlockId(b"\1" * 32)))


# Stale headers.


def closed_chain(path: Path, **params: int) -> Chain:
    return open_chain(path, make_spec(initial_target=1 << 254, is_lottery_open=0, **params))


def won(state: ChainState, key: object = MINER, **changes: object) -> bytes:
    builder = Builder(state, key=key)  # type: ignore[arg-type]
    return encode_block(builder.mine(builder.idle(**changes)))


def test_stale_headers_are_those_that_a_block_may_carry(tmp_path: Path) -> None:
    chain = closed_chain(tmp_path / "chain.db")
    rivals = []
    for height in range(1, 9):
        rival = won(chain.head, ALICE)
        chain.import_block(won(chain.head))
        chain.import_block(rival)
        rivals.append(decode_block(rival).header)
        assert chain.head.height == height
    offered = chain.stale_headers(99)
    # The parents of the last two are the head's parent and the head's parent's parent ...: six of them.
    assert offered == rivals[:1:-1]
    assert chain.stale_headers(2) == rivals[:5:-1]
    block = decode_block(won(chain.head, stale=offered[0]))
    assert block.stale == offered[0]
    chain.import_block(encode_block(block))
    assert offered[0] not in chain.stale_headers(99), "included once"
    for header in chain.stale_headers(99):
        builder = Builder(chain.head)
        assert builder.after(chain.head, builder.mine(builder.idle(stale=header)))


def test_a_sibling_of_the_next_block_is_not_stale(tmp_path: Path) -> None:
    chain = closed_chain(tmp_path / "chain.db")
    chain.import_block(won(chain.head))
    assert chain.stale_headers(9) == []


def test_an_open_lottery_has_no_stale_headers(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    fork = chain.head
    for raw in (*branch(fork, 3), *branch(fork, 1, ALICE)):
        chain.import_block(raw)
    assert chain.stale_headers(9) == []


# Equivocation.


def test_two_blocks_of_one_miner_on_one_parent_are_seen(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    fork = chain.head
    first, second = branch(fork, 1), branch(fork, 1, nonce=1)
    chain.import_block(first[0])
    chain.import_block(branch(fork, 1, ALICE)[0])
    assert chain.equivocations() == [], "rivals are no crime"
    chain.import_block(first[0])
    assert chain.equivocations() == [], "nor is the same block twice"
    chain.import_block(second[0])
    [pair] = chain.equivocations()
    headers = sorted((decode_block(raw).header for raw in (*first, *second)), key=block_id)
    assert [pair.first, pair.second] == headers
    again = open_chain(tmp_path / "chain.db")
    assert again.equivocations() == [pair], "a restart forgets nothing that still counts"
    Builder(chain).extend(3, kind=IDLE, key=CAROL)
    assert chain.equivocations() == [], "the reward has matured: nothing is left to take"


def test_a_second_header_counts_though_its_block_is_invalid(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    first = builder.idle()
    bad = builder.tamper(builder.idle(), nonce=5, target=1)
    forged = builder.tamper(builder.idle(), nonce=6, signature=bytes(64))
    chain.import_block(encode_block(first))
    for raw in (forged, bad):
        with pytest.raises(Invalid):
            chain.import_block(raw)
    [pair] = chain.equivocations()
    assert {pair.first, pair.second} == {first.header, decode_block(bad).header}


def test_pairs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equivocations_module, "MAX_PAIRS", 2)
    spec = make_spec(coinbase_maturity_blocks=50)
    chain = open_chain(tmp_path / "chain.db", spec)
    for _ in range(4):
        parent = chain.head
        for raw in (*branch(parent, 1), *branch(parent, 1, nonce=1)):
            chain.import_block(raw)
    assert [pair.first.height for pair in chain.equivocations()] == [3, 4]
    assert [pair.first.height for pair in open_chain(tmp_path / "chain.db", spec).equivocations()] == [3, 4]
