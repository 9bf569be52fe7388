"""Models of a running node's chain: listed, rebuilt from their blocks, and lies found out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from builders import Builder, make_spec

from bnnchain.bnn.encoding import model_hash
from bnnchain.consensus.codec import decode_block, encode_block
from bnnchain.consensus.errors import Invalid, Unavailable
from bnnchain.consensus.header import block_id
from bnnchain.consensus.state import genesis_state
from bnnchain.consensus.types import BlockId, BlockKind
from bnnchain.net import models as models_module
from bnnchain.net.client import NodeClient
from bnnchain.net.models import list_models, read_model, rebuild

if TYPE_CHECKING:
    from net.running import Nodes, Running


async def grown(nodes: Nodes, blocks: int = 6) -> Running:
    """Return a node whose one family has founders and generations, an IDLE block among them."""
    node = await nodes.start()
    node.builder.extend(2)
    node.idle()
    node.builder.extend(blocks - 3)
    return node


async def test_every_model_of_the_chain_is_listed_and_rebuilt(nodes: Nodes) -> None:
    node = await grown(nodes, 7)
    state = node.chain.head
    family = state.families[0]
    assert family.generation >= 2
    async with NodeClient(node.address) as client:
        listed = await list_models(client)
        assert [each.header.height for each in listed] == [1, 2, 4, 5, 6, 7]
        for each in listed:
            header, model = await read_model(client, each.block_id)
            assert header == each.header
            assert model_hash(model) == each.header.model_hash
        best = await read_model(client, family.best.block_id)
        assert model_hash(best[1]) == family.best.model_hash


async def test_what_carries_no_model_or_is_not_there_is_unavailable(nodes: Nodes) -> None:
    node = await grown(nodes)
    idle = node.chain.store.active_id(3)
    assert idle is not None
    async with NodeClient(node.address) as client:
        with pytest.raises(Unavailable, match="carries no model"):
            await read_model(client, idle)
        with pytest.raises(Unavailable, match="no block"):
            await read_model(client, BlockId(b"n" * 32))


async def test_another_block_than_was_asked_for_is_refused(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await grown(nodes)
    first, second = (node.chain.store.active_id(height) for height in (1, 2))
    assert first is not None
    assert second is not None
    raw = node.chain.store.block(second)
    monkeypatch.setattr(node.chain.store, "block", lambda _: raw)
    async with NodeClient(node.address) as client:
        with pytest.raises(Invalid) as refusal:
            await read_model(client, first)
    assert refusal.value.code == "bad-message"


async def test_the_limit_of_a_family(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await grown(nodes)
    best = node.chain.head.families[0].best
    monkeypatch.setattr(models_module, "MAX_FAMILY_BLOCKS", 2)
    async with NodeClient(node.address) as client:
        with pytest.raises(Unavailable, match="more than 2 models"):
            await read_model(client, best.block_id)


def test_a_model_that_is_not_its_headers_is_refused() -> None:

    builder = Builder(genesis_state(make_spec()))
    blocks = [decode_block(raw) for raw in builder.extend(3)]
    assert blocks[2].header.kind == BlockKind.EVOLVE
    assert model_hash(rebuild(blocks)[0]) == blocks[2].header.model_hash
    assert decode_block(encode_block(blocks[0])) == blocks[0]
    for wrong, code in (
        ([blocks[0], replace(blocks[1], model=blocks[0].model), blocks[2]], "bad-model-hash"),
        ([replace(blocks[0], model=b"")], "bad-encoding"),
        ([blocks[2]], "bad-previous-model"),
    ):
        with pytest.raises(Invalid) as refusal:
            rebuild(wrong)
        assert refusal.value.code == code
    assert block_id(blocks[0].header) == blocks[1].header.previous_model_hash
