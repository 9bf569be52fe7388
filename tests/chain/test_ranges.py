"""A range of blocks goes in as its blocks would one by one, but by one flush of the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders import ALICE, Builder, describe, make_spec, open_chain, uploaded_dataset
from uploads import upload, uploaded_id

from bnnchain.consensus.codec import decode_block
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import BlockKind
from bnnchain.datasets.payload import encode_payload

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.chain.chain import Chain


def commits(chain: Chain) -> list[str]:
    statements: list[str] = []
    chain.store._database.set_trace_callback(lambda text: statements.append(text) if text == "COMMIT" else None)
    return statements


def test_a_range_gives_what_single_blocks_give_with_one_commit(tmp_path: Path) -> None:
    raws = Builder(genesis_state(make_spec())).extend(6)
    single, ranged = open_chain(tmp_path / "single.db"), open_chain(tmp_path / "ranged.db")
    for raw in raws:
        single.import_block(raw)
    counted = commits(ranged)
    imports = ranged.import_blocks(raws)
    assert len(counted) == 1
    assert [each.block_id for each in imports] == [block_id(decode_block(raw).header) for raw in raws]
    assert all(each.is_new and each.is_head and not each.reorg_depth for each in imports)
    assert describe(ranged.head) == describe(single.head)
    assert ranged.store.active_blocks(1, 9) == single.store.active_blocks(1, 9)
    assert [each.is_new for each in ranged.import_blocks(raws)] == [False] * 6


def test_known_side_and_winning_blocks_in_one_range(tmp_path: Path) -> None:
    trunk = Builder(genesis_state(make_spec()))
    raws = trunk.extend(2)
    left, right = Builder(trunk.state), Builder(trunk.state, key=ALICE, seed=1)
    raws += [raws[0], *left.extend(1), *right.extend(3), *left.extend(1)]
    single, ranged = open_chain(tmp_path / "single.db"), open_chain(tmp_path / "ranged.db")
    expected = [single.import_block(raw) for raw in raws]
    imports = ranged.import_blocks(raws)
    for got, wanted in zip(imports, expected, strict=True):
        assert (got.block_id, got.is_new, got.is_head, got.reorg_depth) == (
            wanted.block_id,
            wanted.is_new,
            wanted.is_head,
            wanted.reorg_depth,
        )
    assert describe(ranged.head) == describe(single.head)
    assert ranged.store.active_blocks(1, 9) == single.store.active_blocks(1, 9)


def test_what_came_before_a_bad_block_is_in(tmp_path: Path) -> None:
    builder = Builder(genesis_state(make_spec()))
    raws = builder.extend(3)
    bad = builder.tamper(builder.next(), height=9)
    chain = open_chain(tmp_path / "chain.db")
    with pytest.raises(Invalid, match="bad-height"):
        chain.import_blocks([*raws, bad, *builder.extend(1)])
    assert chain.head.height == 3
    assert chain.store.block_count() == 3
    stranger = Builder(genesis_state(make_spec()), key=ALICE, seed=3).extend(3)[2]
    with pytest.raises(Unavailable, match="unknown parent"):
        chain.import_blocks([*builder.extend(0), stranger])


def test_a_disk_that_fails_takes_none_of_a_range(tmp_path: Path) -> None:
    builder = Builder(genesis_state(make_spec()))
    first, *raws = builder.extend(4, kind=BlockKind.IDLE)
    chain = open_chain(tmp_path / "chain.db")
    chain.import_block(first)
    database = chain.store._database
    database.execute(
        "CREATE TRIGGER full BEFORE INSERT ON blocks WHEN NEW.height = 3 BEGIN SELECT RAISE(FAIL, 'x'); END"
    )
    before = describe(chain.head)
    with pytest.raises(Fault):
        chain.import_blocks(raws)
    assert describe(chain.head) == before
    assert chain.store.block_count() == 1
    database.execute("DROP TRIGGER full")
    chain.import_blocks(raws)
    assert chain.head.height == 4


def test_trusted_blocks_are_replayed_and_all_but_counted(tmp_path: Path) -> None:
    """A false claim passes below the trusted height alone; every rule that needs no inference holds there too."""
    builder = Builder(genesis_state(make_spec()))
    raws = builder.extend(2)
    honest = builder.next()
    lie = builder.tamper(honest, correct_new=honest.header.correct_new + 1)
    broken = builder.tamper(honest, target=5)
    chain = open_chain(tmp_path / "chain.db")
    chain.import_blocks(raws)
    with pytest.raises(Invalid, match="bad-claim"):
        chain.import_blocks([lie], trusted_height=2)
    with pytest.raises(Invalid, match="bad-target"):
        chain.import_blocks([broken], trusted_height=9)
    assert chain.import_blocks([lie], trusted_height=3)[0].is_head


def test_a_new_data_set_of_a_range_is_known_to_its_later_blocks(tmp_path: Path) -> None:
    source = open_chain(tmp_path / "source.db")
    builder = Builder(source)
    raws = [builder.take(builder.next(transactions=[upload(nonce=0)]))]
    raws += [builder.take(builder.next(proofs=builder.proofs(0))) for _ in range(3)]
    chain = open_chain(tmp_path / "chain.db")
    with pytest.raises(Unavailable, match="not here yet"):
        chain.import_blocks(raws)
    assert 1 <= chain.head.height < 4, "what came before is in"
    chain = open_chain(tmp_path / "provided.db")
    chain.store.put_dataset(uploaded_id(), encode_payload(uploaded_dataset().pool))
    chain.import_blocks(raws)
    assert uploaded_id() in chain.head.datasets
    assert describe(chain.head) == describe(source.head)
