"""A kept state is the replayed one to the byte, a spoilt one is noticed; pruning leaves what a start needs."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from builders import ALICE, BOB, Builder, close_opened, describe, make_spec, open_chain, transfer
from uploads import upload

from bnnchain.chain import chain as chain_module
from bnnchain.chain import kept_states
from bnnchain.chain.chain import Chain
from bnnchain.chain.kept_states import KeptStates
from bnnchain.chain.state_codec import decode_state, encode_state
from bnnchain.chain.store import Store
from bnnchain.consensus.codec import HEADER_BYTES
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import BlockKind
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.consensus.state import ChainState


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a state at every second height, so that short chains have many."""
    monkeypatch.setattr(kept_states, "KEPT_STATE_BLOCKS", 2)
    monkeypatch.setattr(chain_module, "WAYPOINT_BLOCKS", 2)
    monkeypatch.setattr(chain_module, "MIN_PRUNE_BLOCKS", 1)


def grown_states() -> list[ChainState]:
    """Return the states of a chain with families, evolved models, money under way, an uploaded data set."""
    builder = Builder(genesis_state(make_spec()))
    states = [builder.state]
    for blocks in (
        {"transactions": [transfer(ALICE, BOB, nonce=0), upload(nonce=1)]},
        {"proofs": None},
        *({} for _ in range(7)),
    ):
        changes = {**blocks, **({"proofs": builder.proofs(0)} if "proofs" in blocks else {})}
        builder.take(builder.next(**changes))
        states.append(builder.state)
    return states


def test_states_come_back_to_the_byte() -> None:
    states = grown_states()
    assert any(family.novelty is not None for family in states[-1].families), "no evolved family among them"
    assert len(states[-1].datasets) == 2
    for state in states:
        data = encode_state(state)
        back = decode_state(state.spec, data)
        assert describe(back) == describe(state)
        assert [describe(each) for each in back.ancestors] == [describe(each) for each in state.ancestors]
        assert encode_state(back) == data
        assert list(back.datasets) == list(state.datasets)


def test_what_states_share_is_written_once_and_shared_again() -> None:
    state = grown_states()[-1]
    back = decode_state(state.spec, encode_state(state))
    alone = encode_state(replace(state, ancestors=()))
    assert len(encode_state(state)) < (1 + len(state.ancestors)) * len(alone)
    assert back.families[0].founders[0] is back.ancestors[-1].families[0].founders[0]


def test_any_flipped_byte_is_refused() -> None:
    state = grown_states()[-1]
    data = encode_state(state)
    for place in (0, 31, 32, len(data) // 2, len(data) - 1):
        flipped = bytearray(data)
        flipped[place] ^= 1
        with pytest.raises(Invalid, match="bad-encoding"):
            decode_state(state.spec, bytes(flipped))
    for cut in (b"", data[:31], data[:-1], data + b"\0"):
        with pytest.raises(Invalid, match="bad-encoding"):
            decode_state(state.spec, cut)
    with pytest.raises(Invalid, match="bad-encoding"):
        decode_state(make_spec(name="other"), data)


def reopened(path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Chain, int]:
    """Return the chain opened anew, and how many blocks it replayed."""
    close_opened()
    replayed = []
    replay = Chain._replay
    monkeypatch.setattr(Chain, "_replay", lambda *args: (replayed.append(1), replay(*args))[1])
    return open_chain(path), len(replayed)


def test_a_start_replays_only_what_came_after_the_kept_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path)
    builder = Builder(chain)
    builder.extend(7)
    head = chain.head
    again, replayed = reopened(path, monkeypatch)
    assert replayed == 1
    assert describe(again.head) == describe(head)
    Builder(again).extend(2)


def test_spoilt_states_are_said_and_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path)
    Builder(chain).extend(6, kind=BlockKind.IDLE)
    head = chain.head
    close_opened()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE states SET data = zeroblob(length(data)) WHERE height = 6")
        database.execute("UPDATE states SET data = (SELECT data FROM states WHERE height = 2) WHERE height = 4")
    with caplog.at_level(logging.WARNING):
        again, replayed = reopened(path, monkeypatch)
    assert replayed == 4, "from the state at height 2: the one at 6 is spoilt, the one at 4 another block's"
    assert "of no use" in caplog.text
    assert describe(again.head) == describe(head)


def test_a_kept_state_of_a_left_branch_is_not_the_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path)
    trunk = Builder(chain)
    trunk.extend(3, kind=BlockKind.IDLE)
    fork = Builder(chain.head, key=ALICE)
    trunk.extend(1, kind=BlockKind.IDLE)
    for raw in fork.extend(2, kind=BlockKind.IDLE):
        chain.import_block(raw)
    assert chain.head.head == fork.state.head
    head = chain.head
    again, _ = reopened(path, monkeypatch)
    assert describe(again.head) == describe(head)


def test_older_states_are_kept_sparsely(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "chain.db", make_spec())) as store:
        kept = KeptStates(store)
        for height in range(1, 2_001):
            kept.keep(replace(genesis_state(store.spec), height=height, head=height.to_bytes(32, "little")))
        heights = store.state_heights()
    assert heights[-8:] == [1986, 1988, 1990, 1992, 1994, 1996, 1998, 2000]
    assert len(heights) < 8 + 4 * 11
    gaps = [(2_000 - low, high - low) for low, high in pairwise(heights)]
    assert all(gap <= max(2, age) for age, gap in gaps), "so an old fork point is replayed from less than its age below"


def pruning(path: Path, blocks: int) -> Chain:
    store = Store(path)
    return Chain(store, ReferenceEvaluator, lambda: 10**10, prune_blocks=blocks)


def test_a_pruned_store_keeps_headers_and_the_last_bodies_and_starts(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    chain = open_chain(path)
    raws = Builder(chain).extend(9)
    close_opened()
    chain = pruning(path, 3)
    with closing(chain.store):
        pruned = chain.store.pruned_height()
        assert 1 <= pruned <= 9 - 3
        with pytest.raises(Unavailable, match="pruned here"):
            chain.store.active_blocks(1, 9)
        with pytest.raises(Unavailable, match="pruned here"):
            chain.store.block(chain.store.active_id(pruned))
        assert chain.store.active_headers(1, 99) == [raw[:HEADER_BYTES] for raw in raws]
        assert [raw for _, raw in chain.store.active_blocks(pruned + 1, 9)] == raws[pruned:]
        assert chain.import_block(raws[0]).is_new is False
        assert chain.common_height([chain.store.active_id(1)]) == 1
        head = describe(chain.head)
        Builder(chain).extend(4)
        assert chain.store.pruned_height() > pruned
    chain = pruning(path, 3)
    with closing(chain.store):
        assert chain.head.height == 13
        assert describe(chain.state_at(chain.store.active_id(9))) == head
        with pytest.raises(Unavailable, match="pruned here"):
            chain.state_at(chain.store.active_id(1))


def test_a_pruned_store_without_a_good_state_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    Builder(open_chain(path)).extend(9, kind=BlockKind.IDLE)
    close_opened()
    pruning(path, 2).store.close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE states SET data = x'00' WHERE height = (SELECT max(height) FROM states)")
    pruning(path, 2).store.close()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE states SET data = x'00'")
    with pytest.raises(Fault, match=r"no state is kept .* run `bnnchain repair`"):
        pruning(path, 2)


def test_a_fork_below_the_pruned_height_is_unavailable_and_above_it_taken(tmp_path: Path) -> None:
    path = tmp_path / "chain.db"
    trunk = Builder(open_chain(path))
    forks = {}
    for height in range(9):
        forks[height] = Builder(trunk.state, key=ALICE)
        trunk.extend(1, kind=BlockKind.IDLE)
    close_opened()
    chain = pruning(path, 4)
    with closing(chain.store):
        low, high = forks[1].extend(1, kind=BlockKind.IDLE), forks[7].extend(3, kind=BlockKind.IDLE)
        with pytest.raises(Unavailable):
            chain.import_block(low[0])
        for raw in high:
            chain.import_block(raw)
        assert chain.head.height == 10
        assert chain.head.head == forks[7].state.head
