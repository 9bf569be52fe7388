"""The index, the rebuilt models, the tree and the plots, against the chain's own state."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from builders import Builder, open_chain

from bnnchain.bnn.encoding import flip_positions, model_hash
from bnnchain.consensus.codec import decode_block, encode_block
from bnnchain.consensus.errors import Fault
from bnnchain.consensus.types import BlockKind
from bnnchain.web.index import ModelIndex
from bnnchain.web.models import ChainModels, changes
from bnnchain.web.plots import MAX_POINTS, Line, plot, thinned
from bnnchain.web.tree import MAX_GENERATIONS, STEP, grow

if TYPE_CHECKING:
    from pathlib import Path

    from bnnchain.chain.chain import Chain
    from bnnchain.consensus.types import BlockId
    from bnnchain.web.index import ModelEntry


def evolved(path: Path, blocks: int = 6) -> Chain:
    chain = open_chain(path / "chain.db")
    Builder(chain).extend(blocks)
    return chain


def test_index_lists_models_alone(tmp_path: Path) -> None:
    chain = evolved(tmp_path, 3)
    builder = Builder(chain)
    index = ModelIndex(chain)
    assert [entry.height for entry in index.entries()] == [1, 2, 3]
    builder.extend(2, kind=BlockKind.IDLE)
    builder.extend()
    assert [entry.height for entry in index.entries()] == [1, 2, 3, 6]


def test_index_follows_a_reorganisation(tmp_path: Path) -> None:
    chain = evolved(tmp_path, 3)
    fork = chain.head
    index = ModelIndex(chain)
    Builder(chain, seed=1).extend(2)
    before = index.entries()
    branch = Builder(fork, seed=2)
    blocks = [branch.extend()[0] for _ in range(3)]
    for raw in blocks:
        chain.import_block(raw)
    assert chain.head.head == branch.state.head
    after = index.entries()
    assert [entry.height for entry in after] == [1, 2, 3, 4, 5, 6]
    assert after[:3] == before[:3]
    assert after[3].block_id != before[3].block_id
    assert after == ModelIndex(chain).entries()


def test_index_follows_a_reorganisation_below_idle_blocks(tmp_path: Path) -> None:
    chain = evolved(tmp_path, 2)
    fork = chain.head
    index = ModelIndex(chain)
    Builder(chain, seed=1).extend(2, kind=BlockKind.IDLE)
    assert len(index.entries()) == 2
    branch = Builder(fork, seed=2)
    for raw in [branch.extend()[0] for _ in range(4)]:
        chain.import_block(raw)
    assert [entry.height for entry in index.entries()] == [1, 2, 3, 4, 5, 6]


def test_models_are_rebuilt(tmp_path: Path) -> None:
    chain = evolved(tmp_path)
    models = ChainModels(chain)
    for entry in ModelIndex(chain).entries():
        found = models.read(entry.block_id)
        assert model_hash(found.model) == found.header.model_hash
        assert (found.parent is None) == (entry.kind == BlockKind.FOUND)
        if found.parent is not None:
            flipped = sum(each.flips for each in changes(found.parent, found.model))
            assert flipped == len(flip_positions(found.parent, found.model))
    best = chain.head.families[0].best
    assert model_hash(models.read(best.block_id).model) == best.model_hash


def test_damaged_family_is_this_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = evolved(tmp_path)
    stored, first, best = chain.store.block, chain.head.families[0].founders[0], chain.head.families[0].best

    def swapped(identity: BlockId) -> bytes | None:
        raw, other = stored(identity), stored(first.block_id)
        if raw is None or other is None or identity != best.block_id:
            return raw
        return encode_block(replace(decode_block(raw), model=decode_block(other).model))

    monkeypatch.setattr(chain.store, "block", swapped)
    with pytest.raises(Fault, match="the store is damaged"):
        ChainModels(chain).read(best.block_id)


def entries_of(chain: Chain) -> list[ModelEntry]:
    return ModelIndex(chain).entries()


def test_tree_has_a_node_for_every_model(tmp_path: Path) -> None:
    entries = entries_of(evolved(tmp_path))
    tree = grow(entries)
    assert [node.entry for node in tree.nodes] == entries
    places = {(node.x, node.y) for node in tree.nodes}
    assert len(places) == len(entries)
    assert all(0 < node.x < tree.width and 0 < node.y < tree.height for node in tree.nodes)
    assert sum(node.is_best for node in tree.nodes) == 1
    assert sum(node.is_parent for node in tree.nodes) == 1
    best = max(entries, key=lambda entry: (entry.correct, entry.height))
    assert next(node.entry for node in tree.nodes if node.is_best) == best
    # Roots to founders, then one edge to each child: a tree.
    assert len(tree.edges) == len(entries)
    for first in tree.nodes:
        for second in tree.nodes:
            apart = max(abs(first.x - second.x), abs(first.y - second.y))
            assert first is second or apart >= STEP


def test_tree_of_nothing() -> None:
    tree = grow([])
    assert (tree.nodes, tree.edges) == ((), ())


def test_tree_of_a_long_family_is_cut(tmp_path: Path) -> None:
    entries = entries_of(evolved(tmp_path))
    child = entries[-1]
    long = [
        *entries,
        *(replace(child, generation=child.generation + n, height=child.height + n) for n in range(1, 300)),
    ]
    tree = grow(long)
    assert tree.left_out == len(long) - len([entry for entry in long if not entry.generation]) - MAX_GENERATIONS
    assert tree.nodes[-1].entry == long[-1]


def test_plot_is_bare_svg() -> None:
    svg = plot('a <b> & "c"', [Line("family <0>", [(0, 50.0), (1, 60.5), (2, 70.25)])])
    for forbidden in ("<style", "<script", " style=", "href", "<defs", "<desc", "<title", "<b>", "<0>"):
        assert forbidden not in svg
    assert svg.count("<circle") == 3
    assert 'role="img"' in svg
    assert "from 50.00 at 0 to 70.25 at 2" in svg


def test_plot_of_one_point_and_of_none() -> None:
    assert plot("one", [Line("x", [(5, 50.0)])]).count("<circle") == 1
    assert "no point" in plot("none", [Line("x", [])])


@pytest.mark.parametrize("count", [0, 1, MAX_POINTS, MAX_POINTS + 1, 3 * MAX_POINTS + 1, 100_000])
def test_long_lines_are_thinned(count: int) -> None:
    points = [(x, float(x)) for x in range(count)]
    short = thinned(points)
    assert len(short) <= MAX_POINTS + 1
    assert short[-1:] == points[-1:]
    assert short == sorted(set(short))


def test_ticks_are_whole_and_few() -> None:
    for high in (1, 7, 24, 99, 1_000, 123_456):
        svg = plot("t", [Line("x", [(0, 1.0), (high, 2.0)])])
        assert svg.count("<text") <= 20
