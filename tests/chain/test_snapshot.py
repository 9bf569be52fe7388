"""A chain goes into a file and comes back whole; a changed, cut or lying file changes nothing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from builders import ALICE, Builder, describe, make_spec, open_chain, uploaded_dataset
from uploads import upload, uploaded_id

from bnnchain.chain import chain as chain_module
from bnnchain.chain import kept_states, snapshot
from bnnchain.chain.chain import Chain
from bnnchain.chain.snapshot import import_snapshot, read_snapshot, write_snapshot
from bnnchain.chain.store import Store
from bnnchain.consensus.codec import decode_block, encode_block
from bnnchain.consensus.errors import Fault, Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.types import BlockKind
from bnnchain_kernels.reference import ReferenceEvaluator

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_700_000_000 + 10**6


def bare_chain(path: Path) -> Chain:
    """Return a chain whose store has no pool at all."""
    return Chain(Store(path, make_spec()), ReferenceEvaluator, lambda: NOW)


def exported(tmp_path: Path) -> tuple[Chain, Path]:
    """Return a chain with an uploaded data set and its snapshot."""
    chain = open_chain(tmp_path / "chain.db")
    builder = Builder(chain)
    builder.take(builder.next(transactions=[upload(nonce=0)]))
    for _ in range(4):
        builder.take(builder.next(proofs=builder.proofs(0)))
    Builder(chain.state_at(chain.store.active_id(3)), key=ALICE).extend(1)
    write_snapshot(chain.store, tmp_path / "snap")
    return chain, tmp_path / "snap"


def resealed(data: bytes) -> bytes:
    """Return a tampered snapshot with a digest that is right again."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


def test_a_chain_comes_back_whole_with_its_pools(tmp_path: Path) -> None:
    chain, path = exported(tmp_path)
    given = read_snapshot(path)
    assert (given.height, given.head, given.weight) == (5, chain.head.head, chain.head.weight)
    assert given.spec.genesis_id == chain.spec.genesis_id
    back = bare_chain(tmp_path / "back.db")
    import_snapshot(given, back)
    assert describe(back.head) == describe(chain.head)
    assert back.store.active_blocks(1, 9) == chain.store.active_blocks(1, 9)
    assert back.store.dataset(uploaded_id()) == chain.store.dataset(uploaded_id())
    write_snapshot(back.store, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == path.read_bytes(), "canonical: one chain, one file"
    assert not (tmp_path / "again.new").exists()
    assert uploaded_dataset().manifest.dataset_id in given.dataset_places
    back.store.close()


def test_every_cut_and_every_flipped_byte_is_refused(tmp_path: Path) -> None:
    _, path = exported(tmp_path)
    data = path.read_bytes()
    for cut in (0, 1, 20, 52, len(data) // 2, len(data) - 33, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(Invalid, match="bad-snapshot"):
            read_snapshot(path)
    for place in (0, 18, 30, len(data) // 2, len(data) - 60, len(data) - 1):
        flipped = bytearray(data)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(Invalid, match="bad-snapshot"):
            read_snapshot(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(Invalid, match="digest"):
        read_snapshot(path)
    with pytest.raises(Unavailable, match="cannot read"):
        read_snapshot(tmp_path / "nowhere")


def test_what_its_maker_lies_about_is_found(tmp_path: Path) -> None:
    """With a digest that is right: the claims at the end, huge sizes, blocks that do not follow."""
    _, path = exported(tmp_path)
    data = path.read_bytes()
    weight = len(data) - 32 - snapshot.WEIGHT_BYTES
    head, height = weight - 32, weight - 40
    spec_size = len(snapshot.MAGIC) + 2
    cases = {
        weight: "what it claims",
        weight + 20: "what it claims",
        head: "what it claims",
        height: "what it claims",
        spec_size + 3: "out of bounds",
        spec_size - 2: "format",
    }
    for place, reason in cases.items():
        flipped = bytearray(data)
        flipped[place] ^= 0x41
        path.write_bytes(resealed(bytes(flipped)))
        with pytest.raises(Invalid, match=reason):
            read_snapshot(path)


def test_a_block_that_breaks_a_rule_ends_the_import(tmp_path: Path) -> None:
    source = open_chain(tmp_path / "source.db")
    builder = Builder(source)
    builder.extend(2)
    honest = builder.next()
    lie = builder.tamper(honest, correct_new=honest.header.correct_new + 1)
    source.import_blocks([lie], trusted_height=3)
    write_snapshot(source.store, tmp_path / "snap")
    given = read_snapshot(tmp_path / "snap")
    chain = bare_chain(tmp_path / "chain.db")
    with pytest.raises(Invalid, match="bad-claim"):
        import_snapshot(given, chain)
    assert chain.head.height == 2
    # The operator who pins that block has said that others judged it.
    import_snapshot(read_snapshot(tmp_path / "snap", {3: source.head.head}), chain, trusted_height=3)
    assert chain.head.head == source.head.head
    chain.store.close()


def test_a_pin_that_is_not_on_its_chain_refuses_it(tmp_path: Path) -> None:
    chain, path = exported(tmp_path)
    assert read_snapshot(path, {3: chain.store.active_id(3), 99: chain.head.head}).height == 5
    with pytest.raises(Invalid, match="other-checkpoint"):
        read_snapshot(path, {3: chain.head.head})


def test_an_interrupted_import_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "BATCH_BLOCKS", 2)
    source, path = exported(tmp_path)

    class Interrupted(Exception):  # noqa: N818
        pass

    def interrupt(height: int) -> None:
        if height == 2:
            raise Interrupted

    chain = bare_chain(tmp_path / "back.db")
    with pytest.raises(Interrupted):
        import_snapshot(read_snapshot(path), chain, on_height=interrupt)
    assert chain.head.height == 2
    chain.store.close()
    chain = bare_chain(tmp_path / "back.db")
    import_snapshot(read_snapshot(path), chain)
    assert describe(chain.head) == describe(source.head)
    chain.store.close()


def test_the_heavier_chain_stays(tmp_path: Path) -> None:
    _, path = exported(tmp_path)
    chain = open_chain(tmp_path / "own.db")
    Builder(chain, key=ALICE, seed=5).extend(7, kind=BlockKind.IDLE)
    head = chain.head.head
    import_snapshot(read_snapshot(path), chain)
    assert chain.head.head == head
    assert chain.store.block_count() == 12


def test_an_export_is_of_one_moment_while_a_node_writes(tmp_path: Path) -> None:
    chain = open_chain(tmp_path / "chain.db")
    Builder(chain).extend(3, kind=BlockKind.IDLE)
    other = Store(tmp_path / "chain.db")

    def mine(_: int) -> None:
        Builder(chain).extend(1, kind=BlockKind.IDLE)

    given = write_snapshot(other, tmp_path / "snap", mine)
    other.close()
    assert given.height == 3
    assert chain.head.height == 4


def test_a_pruned_store_and_a_full_disk_write_no_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_states, "KEPT_STATE_BLOCKS", 2)
    monkeypatch.setattr(chain_module, "MIN_PRUNE_BLOCKS", 1)
    chain = open_chain(tmp_path / "chain.db")
    Builder(chain).extend(8, kind=BlockKind.IDLE)
    with pytest.raises(Fault, match="cannot write"):
        write_snapshot(chain.store, tmp_path / "no directory" / "snap")
    chain.store.prune(4)
    with pytest.raises(Unavailable, match="pruned"):
        write_snapshot(chain.store, tmp_path / "snap")
    assert sorted(file.name for file in tmp_path.iterdir() if "snap" in file.name) == []


def test_block_ids_commit_to_what_a_trusted_import_does_not_count(tmp_path: Path) -> None:
    """A model swapped below the pinned block breaks model_hash, or the id that the pin names."""
    chain, _ = exported(tmp_path)
    raws = [raw for _, raw in chain.store.active_blocks(1, 9)]
    block = decode_block(raws[0])
    other = Builder(open_chain(tmp_path / "other.db"), seed=9).next()
    swapped = encode_block(type(block)(block.header, other.model, block.transactions, block.proofs, block.stale))
    assert block_id(decode_block(swapped).header) == block_id(block.header)
    back = bare_chain(tmp_path / "back.db")
    with pytest.raises(Invalid, match=r"bad-model-hash|bad-shape"):
        back.import_blocks([swapped], trusted_height=5)
    back.store.close()
